"""A vector for each row, near the vector of what belongs to it: search, matching, recommendation.

A row has two sides: its inputs (the anchor) and the value of the target column (the positive): a text, a picture, or a
mapping (an item, read as a history reads its items). Both are read by the same modalities and the same encoder, one
tower for both, so that either side can be embedded and searched by the other.

Symbols: B rows of a batch, D ``embed_dim``, a_i the anchors' vectors, p_i the positives', both of length 1, and e^t the
learned scale.

    L = ½ mean_i [ -log softmax_j(e^t a_i·p_j)_i  -  log softmax_j(e^t p_i·a_j)_i ]

Sources: InfoNCE, van den Oord et al. 2018 (arXiv 1807.03748), eq. 4; both directions and the learned scale, held below
100, Radford et al. 2021 (CLIP, arXiv 2103.00020), section 2.3. The other rows of the batch are the negatives, save
those with the same positive or the same anchor: a right answer is no negative.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polydetr.core.examples import Arrays
from polydetr.core.layout import FieldText, Layout
from polydetr.core.predictions import Evaluation, Prediction
from polydetr.core.records import Row
from polydetr.errors import Location, RowError, SchemaError
from polydetr.metrics.ranking import rank_of, report_of_ranks
from polydetr.nn.batch import Encoded
from polydetr.schema.columns import infer_modality
from polydetr.tasks.base import Task, WindowView
from polydetr.values.cells import is_missing

START_SCALE, MAX_SCALE = 1 / 0.07, 100.0
_AT_ONCE = 1024
"""Queries compared with all candidates at once: a bound on memory."""


@dataclass(frozen=True)
class Positive:
    """What belongs to a row: ``key`` is the same for the same value; ``vector`` (D,) once the model has embedded it."""

    key: int
    vector: np.ndarray | None = None


class EmbeddingHead(nn.Module):
    """The pooled token, scaled to length 1. No projection: what a pretrained backbone knows of likeness is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(START_SCALE)))

    def forward(self, encoded: Encoded) -> dict[str, Tensor]:
        vector = F.normalize(encoded.pooled.float(), dim=-1)
        return {"vector": vector, "log_scale": self.log_scale.float().expand(len(vector))}


class EmbeddingTask(Task):
    """``view`` is the modality that reads the target's value: "text", "image" or "history"."""

    kind: ClassVar[str] = "embedding"
    per_token: ClassVar[bool] = False
    primary_metric: ClassVar[str] = "mrr"

    def learn(self, rows: Sequence[Row]) -> list[str]:
        values = [row.get(self.target) for row in rows]
        present = [v for v in values if not _absent(v)]
        if not present:
            raise self.missing_everywhere("what belongs to each row")
        self.view = self._view_of(present)
        distinct = len({_key(v) for v in present})
        if distinct < 2 <= len(present):
            raise SchemaError(
                f"target {self.target!r} is the same in all {len(present)} training rows: nothing to tell apart"
            )
        notes = [f"target {self.target!r} is read as {self.view}: {distinct} distinct values"]
        if len(present) < len(values):
            notes.append(
                f"{len(values) - len(present)} of {len(values)} training rows have no {self.target!r}: "
                "they do not train it"
            )
        return notes

    def _view_of(self, values: Sequence[Any]) -> str:
        first = values[0]
        if isinstance(first, Mapping):
            return "history"
        if infer_modality(self.target, values)[0] == "image":
            return "image"
        if isinstance(first, str):
            return "history" if "history" in self.inputs else "text"
        raise SchemaError(
            f"target {self.target!r} holds {first!r:.60}, a {type(first).__name__}; an embedding belongs to a text, a "
            "picture or a mapping of fields",
            hint=f"For numbers say {self.target}:regression, for labels {self.target}:classification.",
        )

    def gold(self, row: Row, text: FieldText | None) -> Positive | None:
        value = row.get(self.target)
        if _absent(value):
            return None
        if self.view == "text" and not isinstance(value, str):
            raise RowError(
                f"{value!r:.80} is {type(value).__name__}, expected a string", location=Location(column=self.target)
            )
        return Positive(_key(value))

    def encode_target(self, view: WindowView) -> Arrays:
        gold = view.golds[0]
        return {
            "known": np.array(gold is not None, dtype=np.float32),
            "positive": np.array(gold.key if gold is not None else 0, dtype=np.int64),
            "anchor": np.array(view.content, dtype=np.int64),
        }

    # -- tensors ------------------------------------------------------------------------------------------------------

    def build_head(self, embed_dim: int) -> nn.Module:
        return EmbeddingHead()

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], weights: Tensor) -> dict[str, Tensor]:
        anchors, positives = outputs["vector"].float(), outputs["positive"].float()
        scale = outputs["log_scale"][:1].float().clamp(max=math.log(MAX_SCALE)).exp()
        logits = scale * anchors @ positives.T
        numbers = torch.arange(len(logits), device=logits.device)
        logits = logits.masked_fill(_no_negatives(targets), -torch.inf)
        forth, back = (F.cross_entropy(table, numbers, reduction="none") for table in (logits, logits.T))
        both = (forth + back) / 2
        weights = weights * targets["known"]
        return {"contrastive": (both * weights).sum() / weights.sum().clamp(min=1e-6)}

    # -- answers ------------------------------------------------------------------------------------------------------

    def decode(
        self, outputs: Sequence[Arrays], layouts: Sequence[Layout | None], texts: Sequence[FieldText], num_rows: int
    ) -> list[Prediction]:
        # A long text is read in windows; their vectors are averaged.
        vector = np.mean([o["vector"].astype(np.float64) for o in outputs], axis=0)
        return [Prediction((vector / max(float(np.linalg.norm(vector)), 1e-12)).tolist())]

    def evaluate(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> Evaluation:
        """Each row searches its positive among all distinct positives of these rows, exactly."""
        pairs = [(p.value, g) for p, g in zip(predictions, golds, strict=True) if g is not None]
        if not pairs:
            raise SchemaError(f"no row has a value for target {self.target!r}: nothing to measure")
        vectors = {gold.key: gold.vector for _, gold in pairs}
        columns = {key: i for i, key in enumerate(vectors)}
        candidates = np.array(list(vectors.values()), dtype=np.float32)
        ranks = []
        for start in range(0, len(pairs), _AT_ONCE):
            part = pairs[start : start + _AT_ONCE]
            scores = np.array([value for value, _ in part], dtype=np.float32) @ candidates.T
            ranks.append(rank_of(scores, np.array([columns[gold.key] for _, gold in part])))
        report = report_of_ranks(np.concatenate(ranks), candidates=len(candidates))
        data = {"queries": report.queries, "candidates": report.candidates}
        return Evaluation(report.to_dict(), {"retrieval": report.to_text()}, {"retrieval": data})

    # -- state ---------------------------------------------------------------------------------------------------------

    def learned(self) -> dict[str, Any]:
        return {"view": self.view}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.view = state["view"]


def _no_negatives(targets: Mapping[str, Tensor]) -> Tensor:
    """(B, B), True where row j is no negative of i: it has no positive, or is right for i too; never the diagonal."""
    positive, anchor, known = targets["positive"], targets["anchor"], targets["known"] > 0
    out = (positive[:, None] == positive) | (anchor[:, None] == anchor) | ~known | ~known[:, None]
    return out & ~torch.eye(len(out), dtype=torch.bool, device=out.device)


def _absent(value: Any) -> bool:
    return is_missing(value) or (isinstance(value, (Mapping, list, tuple)) and not len(value))


def _key(value: Any) -> int:
    """A hash of the value, the same on every machine."""
    text = json.dumps(value, sort_keys=True, default=_bytes_of, ensure_ascii=True)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def _bytes_of(value: Any) -> str:
    if hasattr(value, "tobytes"):  # NumPy and PIL
        value = value.tobytes()
    return hashlib.sha256(value).hexdigest() if isinstance(value, (bytes, bytearray, memoryview)) else str(value)
