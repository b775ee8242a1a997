"""A label for every word (named entities, parts of speech), answered as character spans of the original string."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from polydetr.batch import IGNORE_INDEX, Arrays, Encoded
from polydetr.config import TaskConfig
from polydetr.errors import Location, RowError, SchemaError
from polydetr.layout import FieldText, Layout, Row
from polydetr.metrics.calibration import expected_calibration_error
from polydetr.metrics.entities import entity_report
from polydetr.metrics.tokens import token_report
from polydetr.spans import Span
from polydetr.tags import iob2_to_word_spans, spans_to_iob2, to_iob2
from polydetr.tasks.base import Evaluation, Prediction, Task, WindowView, log_softmax

_PREFIXED = re.compile(r"(O|[BIESMLUW]-.+)")
_IMPOSSIBLE = -1e9


@dataclass(frozen=True)
class GoldTags:
    """A row's true tags, one a word, and its true spans, which need not stand on word borders."""

    tags: Sequence[str]
    spans: Sequence[Span]


class TokenHead(nn.Module):
    """A linear output over every token of one group."""

    def __init__(self, embed_dim: int, num_labels: int, *, group: str = "text", dropout: float = 0.1) -> None:
        super().__init__()
        self.group = group
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(embed_dim, num_labels)

    def forward(self, encoded: Encoded) -> dict[str, Tensor]:
        return {"logits": self.output(self.dropout(encoded.tokens[self.group]))}


class TaggingTask(Task):
    """A word is labelled at its first token. Only valid IOB2 sequences are decoded (an I- tag continues its own type)."""

    kind: ClassVar[str] = "tagging"
    per_token: ClassVar[bool] = True
    primary_metric: ClassVar[str] = "entity_f1"

    def __init__(self, target: str, config: TaskConfig) -> None:
        super().__init__(target, config)
        self.labels: list[str] = []
        self.plain = False  # labels without B-/I-: parts of speech, not entities
        self.scheme = config.scheme

    # -- before training --------------------------------------------------------------------------------------------

    def learn(self, rows: Sequence[Row]) -> list[str]:
        values = [row.get(self.target) for row in rows]
        present = [v for v in values if v is not None and not isinstance(v, float)]
        if not present:
            raise SchemaError(f"target {self.target!r} is missing in every training row", hint="Name the column that holds tags or spans.")
        as_tags = [list(v) for v in present if len(v) and isinstance(v[0], str)]
        self.plain = any(not _PREFIXED.fullmatch(tag) for tags in as_tags for tag in tags)
        if self.plain:
            self.labels = sorted({tag for tags in as_tags for tag in tags})
        else:
            tagged = (tag for tags in as_tags for tag in tags if tag != "O")
            spanned = (_span_of(s, self.target).label for v in present if len(v) and not isinstance(v[0], str) for s in v)
            types = Counter([tag.partition("-")[2] for tag in tagged]) + Counter(spanned)
            if not types:
                raise SchemaError(f"target {self.target!r} has no entity in any of {len(present)} training rows: nothing to learn")
            # Every type gets both tags, so that each valid sequence can be decoded whatever the training rows show.
            self.labels = ["O", *(f"{p}-{t}" for t in sorted(types) for p in "BI")]
        missing = len(values) - len(present)
        return [f"{missing} of {len(values)} training rows have no {self.target!r}: they do not train it"] if missing else []

    def _tags_of(self, value: Any, text: FieldText) -> list[str] | None:
        """The row's label as one IOB2 tag a word.

        Raises:
            RowError: the number of tags is not the number of words, or a span lies outside the text.
        """
        if value is None or (isinstance(value, float) and value != value):
            return None
        if len(value) and isinstance(value[0], str):
            if len(value) != len(text.words):
                raise RowError(
                    f"{len(value)} tags for {len(text.words)} words", location=Location(column=self.target), hint="Give one tag a token."
                )
            return list(value) if self.plain else to_iob2(list(value), scheme=self.scheme)
        spans = [_span_of(item, self.target) for item in value]
        for span in spans:
            _check_span(span, text.text, self.target)
        return spans_to_iob2(text.words, spans)[0]

    def encode_target(self, view: WindowView) -> Arrays:
        layout = view.layout
        assert layout is not None
        labels = np.full(len(layout.row), IGNORE_INDEX, dtype=np.int16)
        index = {label: i for i, label in enumerate(self.labels)}
        for row in np.unique(layout.row[layout.row >= 0]):
            tags = self._tags_of(view.rows[row].get(self.target), view.texts[row])
            if tags is None:
                continue
            ids = np.array([index.get(tag, IGNORE_INDEX) for tag in tags], dtype=np.int16)
            here = layout.first & (layout.row == row)
            labels[here] = ids[layout.word[here]]
        return {"labels_per_token": labels}

    def gold(self, row: Row, text: FieldText | None) -> GoldTags | None:
        assert text is not None
        value = row.get(self.target)
        tags = self._tags_of(value, text)
        if tags is None:
            return None
        if len(value) and not isinstance(value[0], str):
            return GoldTags(tags, [_span_of(item, self.target) for item in value])
        return GoldTags(tags, [] if self.plain else _word_spans(tags, text))

    # -- tensors ------------------------------------------------------------------------------------------------------

    def build_head(self, embed_dim: int) -> nn.Module:
        return TokenHead(embed_dim, len(self.labels))

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], weights: Tensor) -> dict[str, Tensor]:
        labels = targets["labels_per_token"]
        here = labels != IGNORE_INDEX
        logits = outputs["logits"][here].float()
        total = F.cross_entropy(logits, labels[here], reduction="sum", label_smoothing=self.label_smoothing)
        return {"cross_entropy": total / here.sum().clamp(min=1)}

    def calibration_pairs(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
        here = targets["labels_per_token"] != IGNORE_INDEX
        return outputs["logits"].float()[here], targets["labels_per_token"][here]

    # -- answers ------------------------------------------------------------------------------------------------------

    def decode(
        self, outputs: Sequence[Arrays], layouts: Sequence[Layout | None], texts: Sequence[FieldText], num_rows: int
    ) -> list[Prediction]:
        scores = self._word_scores(outputs, layouts, texts)
        return [self._answer(log_softmax(s, self.temperature), text) for s, text in zip(scores, texts, strict=True)]

    def _word_scores(
        self, outputs: Sequence[Arrays], layouts: Sequence[Layout | None], texts: Sequence[FieldText]
    ) -> list[np.ndarray]:
        """(words, C) logits of each row; where windows overlap, the one with more context around the word speaks."""
        scores = [np.zeros((len(text.words), len(self.labels)), dtype=np.float32) for text in texts]
        margins = [np.full(len(text.words), -1, dtype=np.int64) for text in texts]
        for output, layout in zip(outputs, layouts, strict=True):
            assert layout is not None
            where = np.flatnonzero(layout.first)
            for row in np.unique(layout.row[where]):
                here = where[layout.row[where] == row]
                words = layout.word[here]
                better = layout.margin[here] > margins[row][words]
                margins[row][words[better]] = layout.margin[here][better]
                scores[row][words[better]] = output["logits"][here][better]
        return scores

    def _answer(self, log_p: np.ndarray, text: FieldText) -> Prediction:
        path = self._best_path(log_p)
        tags = [self.labels[i] for i in path]
        sure = np.exp(log_p[np.arange(len(path)), path])
        if self.plain:
            found = [(i, i + 1, tag) for i, tag in enumerate(tags)]
        else:
            found = iob2_to_word_spans(tags)
        entities = []
        for first, last, label in found:
            start, end = text.words[first][0], text.words[last - 1][1]
            probability = float(sure[first:last].min())  # a span is as sure as its least sure word
            entities.append({"start": start, "end": end, "label": label, "text": text.text[start:end], "probability": probability})
        probability = float(sure.min()) if len(sure) else None
        return Prediction(entities, probability, {"tags": tags, "words": list(text.words), "word_probability": sure.tolist()})

    def _best_path(self, log_p: np.ndarray) -> np.ndarray:
        """The most probable valid sequence (Viterbi 1967)."""
        path = log_p.argmax(-1) if len(log_p) else np.zeros(0, dtype=np.int64)
        if self.plain or not len(path):
            return path
        allowed = self._allowed
        if allowed[0, path[0] + 1] and allowed[path[:-1] + 1, path[1:] + 1].all():
            return path  # the unconstrained best is valid, so it is the constrained best
        penalty = np.where(allowed[1:, 1:], 0.0, _IMPOSSIBLE)
        score = log_p[0] + np.where(allowed[0, 1:], 0.0, _IMPOSSIBLE)
        back = np.zeros(log_p.shape, dtype=np.int64)
        for i in range(1, len(log_p)):
            ways = score[:, None] + penalty
            back[i] = ways.argmax(0)
            score = ways.max(0) + log_p[i]
        path = np.zeros(len(log_p), dtype=np.int64)
        path[-1] = score.argmax()
        for i in range(len(log_p) - 1, 0, -1):
            path[i - 1] = back[i, path[i]]
        return path

    @property
    def _allowed(self) -> np.ndarray:
        """allowed[i + 1, j + 1]: label j may follow label i; row 0 stands for the beginning."""
        table = self.__dict__.get("_allowed_table")
        if table is None:
            size = len(self.labels)
            table = np.ones((size + 1, size + 1), dtype=bool)
            for j, label in enumerate(self.labels):
                if label.startswith("I-"):
                    same = [l[2:] == label[2:] and l[:2] in ("B-", "I-") for l in self.labels]
                    table[:, j + 1] = [False, *same]
            self.__dict__["_allowed_table"] = table
        return table

    def evaluate(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> Evaluation:
        pairs = [(p, g) for p, g in zip(predictions, golds, strict=True) if g is not None]
        if not pairs:
            raise SchemaError(f"no row has a value for target {self.target!r}: nothing to measure")
        tokens = token_report([g.tags for _, g in pairs], [p.details["tags"] for p, _ in pairs])
        correct = [t == g for p, gold in pairs for t, g in zip(p.details["tags"], gold.tags, strict=True)]
        confidence = [c for p, _ in pairs for c in p.details["word_probability"]]
        metrics = {
            "accuracy": tokens.accuracy,
            "macro_f1": tokens.macro_f1,
            "weighted_f1": tokens.weighted_f1,
            "ece": expected_calibration_error(confidence, correct),
        }
        tables = {"tokens": tokens.to_text()}
        data: dict[str, Any] = {"tokens": tokens.to_dict()}
        figures: dict[str, Any] = {"classes": tokens, "confidence": confidence, "correct": correct}
        if not self.plain:
            spans = [[Span(e["start"], e["end"], e["label"]) for e in p.value] for p, _ in pairs]
            report = entity_report([g.spans for _, g in pairs], spans)
            metrics = {"entity_f1": report.entity_f1, **metrics}
            tables["entities"] = report.to_text()
            data["entities"] = report.to_dict()
            figures["entities"] = report
        return Evaluation(metrics, tables, data, figures)

    # -- state ---------------------------------------------------------------------------------------------------------

    def learned(self) -> dict[str, Any]:
        return {"labels": self.labels, "plain": self.plain, "scheme": self.scheme}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.labels, self.plain, self.scheme = list(state["labels"]), bool(state["plain"]), state["scheme"]


def _word_spans(tags: Sequence[str], text: FieldText) -> list[Span]:
    return [Span(text.words[a][0], text.words[b - 1][1], label) for a, b, label in iob2_to_word_spans(tags)]


def _span_of(item: Any, column: str) -> Span:
    if isinstance(item, Mapping):
        try:
            return Span(int(item["start"]), int(item["end"]), str(item["label"]))
        except (KeyError, TypeError, ValueError):
            pass
    elif isinstance(item, (list, tuple)) and len(item) == 3:
        return Span(int(item[0]), int(item[1]), str(item[2]))
    raise RowError(f'{item!r:.80} is not a span, expected {{"start": 0, "end": 4, "label": "PER"}}', location=Location(column=column))


def _check_span(span: Span, text: str, column: str) -> None:
    if not 0 <= span.start < span.end <= len(text):
        raise RowError(
            f"span {span.start}-{span.end} ({span.label}) lies outside the text of {len(text)} characters, or is empty",
            location=Location(column=column),
            hint="Spans count characters from 0; the end is exclusive.",
        )
