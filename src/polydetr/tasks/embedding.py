"""A vector per row, near the vector of what belongs to it: search, matching, recommendation.

A row has two sides: its inputs (the anchor) and the value of the target column (the positive): a text, an image, or a
mapping (an item, read as a history reads its items). Both are read by the same modalities and the same encoder, one
tower for both, so that either side can be embedded and searched by the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from polydetr.core.examples import Arrays
from polydetr.core.layout import FieldText, Layouts
from polydetr.core.mistakes import Mistake
from polydetr.core.predictions import Evaluation, Figures, Prediction
from polydetr.core.records import Row
from polydetr.core.tables import AnswerColumn, predicted
from polydetr.errors import Location, RowError, SchemaError
from polydetr.metrics.figures import RankFigures
from polydetr.metrics.ranking import rank_of, report_of_ranks
from polydetr.schema.columns import infer_modality
from polydetr.tasks.base import LearnedState, Task, WindowView
from polydetr.tasks.explained import Answer, Counterpart, Reading
from polydetr.values.cells import is_missing

_AT_ONCE = 1024
"""Queries compared with all candidates at once: a bound on memory."""


@dataclass(frozen=True)
class Positive:
    """The value of the target in a row: ``key`` is a hash of it; ``vector`` (D,) stands here once the model has
    embedded it.
    """

    key: int
    vector: np.ndarray | None = None


class EmbeddingTask(Task):
    """Cosine similarity of the two sides of a row; trained by the other rows of the batch (``heads.embedding``)."""

    kind: ClassVar[str] = "embedding"
    primary_metric: ClassVar[str] = "mrr"

    class Learned(LearnedState):
        view: str

    positive_modality: str | None = None
    """The modality that reads the target's value: "text", "image" or "history"."""

    def learn(self, rows: Sequence[Row]) -> list[str]:
        present = [value for row in rows if not _absent(value := row.get(self.target))]
        if not present:
            raise self.missing_everywhere("what belongs to each row")
        self.positive_modality = self._modality_of(present)
        distinct = len({self._key(v) for v in present})
        if distinct < 2 <= len(present):
            raise SchemaError(
                f"target {self.target!r} is the same in all {len(present)} training rows: nothing to tell apart"
            )
        message = f"target {self.target!r} is read as {self.positive_modality}: {distinct} distinct values"
        return [message, *self.missing_in_some(present, rows)]

    def _modality_of(self, values: Sequence[Any]) -> str:
        first = values[0]
        if isinstance(first, Mapping):
            return "history"
        if infer_modality(self.target, values)[0] == "image":
            return "image"
        if isinstance(first, str):
            return "history" if "history" in self.context.inputs else "text"
        raise SchemaError(
            f"target {self.target!r} holds {first!r:.60}, a {type(first).__name__}; an embedding belongs to a text, "
            "an image or a mapping of fields",
            hint=f"For numbers write {self.target}:regression, for labels {self.target}:classification.",
        )

    def gold(self, row: Row, text: FieldText | None) -> Positive | None:
        value = row.get(self.target)
        if _absent(value):
            return None
        if self.positive_modality == "text" and not isinstance(value, str):
            raise RowError(
                f"{value!r:.80} is {type(value).__name__}, expected a string", location=Location(column=self.target)
            )
        return Positive(self._key(value))

    def _key(self, value: Any) -> int:
        """A hash of the value, the same on every machine. Texts that differ in white space alone are one value."""
        if self.positive_modality != "image":
            value = _spaced_alike(value)
        text = json.dumps(value, sort_keys=True, default=_bytes_of, ensure_ascii=True)
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)

    def encode_target(self, view: WindowView) -> Arrays:
        gold = view.golds[0]
        return {
            "known": np.array(gold is not None, dtype=np.float32),
            "positive": np.array(gold.key if gold is not None else 0, dtype=np.int64),
            "anchor": np.array(view.content, dtype=np.int64),
        }

    # -- answers ------------------------------------------------------------------------------------------------------

    def decode(self, outputs: Sequence[Arrays], layouts: Layouts, texts: Sequence[FieldText]) -> list[Prediction]:
        # A long text is read in windows; their vectors are averaged.
        vector = np.mean([o["vector"].astype(np.float64) for o in outputs], axis=0)
        return [Prediction((vector / max(float(np.linalg.norm(vector)), 1e-12)).tolist())]

    def answer_schema(self) -> dict[str, Any]:
        return {"type": "array", "items": {"type": "number"}, "description": "a vector of length 1"}

    def answer_columns(self, *, probabilities: bool = False) -> list[AnswerColumn]:
        return [predicted(self.target, "vector")]

    def evaluate(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> Evaluation:
        """Each row searches its positive among all distinct positives of these rows, exactly."""
        pairs = self.labeled(predictions, golds)
        rows = np.array([i for i, gold in enumerate(golds) if gold is not None])
        vectors = {gold.key: gold.vector for _, gold in pairs}
        columns = {key: i for i, key in enumerate(vectors)}
        owner = np.zeros(len(columns), np.int64)  # a row that has the candidate
        owner[[columns[gold.key] for _, gold in reversed(pairs)]] = rows[::-1]
        candidates = np.array(list(vectors.values()), dtype=np.float32)
        ranks, first = [], []
        for start in range(0, len(pairs), _AT_ONCE):
            part = pairs[start : start + _AT_ONCE]
            scores = np.array([p.value for p, _ in part], dtype=np.float32) @ candidates.T
            ranks.append(rank_of(scores, np.array([columns[gold.key] for _, gold in part])))
            first.append(owner[scores.argmax(1)])
        report = report_of_ranks(np.concatenate(ranks), candidates=len(candidates))
        data = {"queries": report.queries, "candidates": report.candidates}
        figures = RankFigures(rows, np.concatenate(ranks), np.concatenate(first), len(candidates))
        return Evaluation(report.to_dict(), {"retrieval": report.to_text()}, {"retrieval": data}, figures)

    @property
    def mistake_kinds(self) -> Mapping[str, str]:
        return {"not first": "Rows whose own value does not come first, the lowest rank first."}

    def mistakes(
        self, predictions: Sequence[Prediction], golds: Sequence[Any], figures: Figures
    ) -> Iterator[tuple[int, Mistake]]:
        assert isinstance(figures, RankFigures)
        for row, rank, first in zip(figures.rows.tolist(), figures.ranks.tolist(), figures.first.tolist(), strict=True):
            if rank > 1 and golds[row].key != golds[first].key:
                note = f"its own comes {rank:,}. of {figures.candidates:,}"
                yield row, Mistake("not first", float(rank), note=note, instead=first)

    # -- state ---------------------------------------------------------------------------------------------------------

    def answer_of(self, reading: Reading, choice: Any, *, counterpart: Counterpart) -> Answer:
        """choice: what the row is compared with, in place of its own value of the target."""
        from polydetr.tasks.explained_rows import SimilarityAnswer

        return SimilarityAnswer.of(reading, counterpart())

    def learned(self) -> dict[str, Any]:
        return {"view": self.positive_modality}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.positive_modality = state["view"]


def _absent(value: Any) -> bool:
    return is_missing(value) or (isinstance(value, (Mapping, list, tuple)) and not len(value))


def _spaced_alike(value: Any) -> Any:
    """The value with single blanks in its texts, and none at their ends."""
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, Mapping):
        return {name: _spaced_alike(part) for name, part in value.items()}
    return [_spaced_alike(part) for part in value] if isinstance(value, (list, tuple)) else value


def _bytes_of(value: Any) -> str:
    if hasattr(value, "tobytes"):  # NumPy and PIL
        value = value.tobytes()
    return hashlib.sha256(value).hexdigest() if isinstance(value, (bytes, bytearray, memoryview)) else str(value)
