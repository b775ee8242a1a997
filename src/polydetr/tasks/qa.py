"""The answer to a question as a stretch of a passage, or that the passage holds none (Rajpurkar et al. 2018, arXiv 1806.03822)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polydetr.batch import Arrays, Encoded
from polydetr.config import TaskConfig
from polydetr.errors import Location, RowError, SchemaError
from polydetr.layout import FieldText, Layout, Row
from polydetr.metrics.qa import best_no_answer_threshold, qa_report
from polydetr.tasks.base import Evaluation, Prediction, Task, WindowView, log_softmax

_OUTSIDE = -1e4


class SpanHead(nn.Module):
    """A start and an end score for every token; token 0 stands for "no answer here"."""

    def __init__(self, embed_dim: int, *, group: str = "text", dropout: float = 0.1) -> None:
        super().__init__()
        self.group = group
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(embed_dim, 2)

    def forward(self, encoded: Encoded) -> dict[str, Tensor]:
        scores = self.output(self.dropout(encoded.tokens[self.group])).float()
        start, end = scores.masked_fill(~encoded.masks[self.group][..., None], _OUTSIDE).unbind(-1)
        return {"start_logits": start, "end_logits": end}


class QuestionAnsweringTask(Task):
    """The passage is the last text field, the question the one before it. Long passages are read in windows; the surest window answers."""

    kind: ClassVar[str] = "qa"
    per_token: ClassVar[bool] = True
    primary_metric: ClassVar[str] = "f1"
    tunes: ClassVar[bool] = True

    def __init__(self, target: str, config: TaskConfig) -> None:
        super().__init__(target, config)
        self.no_answer = False
        self.no_answer_threshold = 0.0

    def learn(self, rows: Sequence[Row]) -> list[str]:
        answers = [self._answers(row) for row in rows]
        if not any(answers):
            raise SchemaError(f"no training row has an answer in {self.target!r}", hint='Expected [{"text": "...", "start": 0}].')
        empty = sum(not a for a in answers)
        self.no_answer = empty > 0
        return [f"{empty} of {len(rows)} training questions have no answer: the model learns to say so"] if empty else []

    def _answers(self, row: Row) -> list[tuple[str, int]]:
        value = row.get(self.target)
        if value is None or (isinstance(value, float) and value != value):
            return []
        try:
            return [(str(a["text"]), int(a["start"])) for a in value]
        except (TypeError, KeyError, ValueError):
            raise RowError(
                f'{value!r:.80} is not a list of answers, expected [{{"text": "...", "start": 0}}]', location=Location(column=self.target)
            ) from None

    def encode_target(self, view: WindowView) -> Arrays:
        layout, text = view.layout, view.texts[0].text
        assert layout is not None
        start = end = 0
        answers = self._answers(view.rows[0])
        if answers:
            answer, begin = answers[0]
            if begin < 0 or text[begin : begin + len(answer)] != answer:
                raise RowError(
                    f"answer {answer!r:.60} does not stand at character {begin} of the passage",
                    location=Location(column=self.target),
                    hint="start counts characters of the passage from 0.",
                )
            inside = layout.row >= 0
            first = np.flatnonzero(inside & (layout.start <= begin) & (begin < layout.end))
            last = np.flatnonzero(inside & (layout.start < begin + len(answer)) & (begin + len(answer) <= layout.end))
            if len(first) and len(last):
                start, end = int(first[0]), int(last[-1])
        return {"start": np.array(start, dtype=np.int64), "end": np.array(end, dtype=np.int64)}

    def gold(self, row: Row, text: FieldText | None) -> list[str] | None:
        return [answer for answer, _ in self._answers(row)]

    def build_head(self, embed_dim: int) -> nn.Module:
        return SpanHead(embed_dim)

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], weights: Tensor) -> dict[str, Tensor]:
        start = F.cross_entropy(outputs["start_logits"].float(), targets["start"])
        end = F.cross_entropy(outputs["end_logits"].float(), targets["end"])
        return {"start": start / 2, "end": end / 2}

    def calibration_pairs(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
        logits = torch.cat([outputs["start_logits"], outputs["end_logits"]]).float()
        return logits, torch.cat([targets["start"], targets["end"]])

    def decode(
        self, outputs: Sequence[Arrays], layouts: Sequence[Layout | None], texts: Sequence[FieldText], num_rows: int
    ) -> list[Prediction]:
        text = texts[0]
        best: tuple[float, int, int] | None = None
        null = np.inf
        for output, layout in zip(outputs, layouts, strict=True):
            assert layout is not None
            start = log_softmax(output["start_logits"][: len(layout.row)], self.temperature)
            end = log_softmax(output["end_logits"][: len(layout.row)], self.temperature)
            null = min(null, float(start[0] + end[0]))
            found = self._best_span(start, end, layout)
            if found and (best is None or found[0] > best[0]):
                best = found
        if best is None or (self.no_answer and best[0] - null < self.no_answer_threshold):
            value: dict[str, Any] = {"text": "", "start": None, "end": None}
            probability = float(np.exp(null))
        else:
            begin, finish = best[1], best[2]
            value = {"text": text.text[begin:finish], "start": begin, "end": finish}
            probability = float(np.exp(best[0]))
        advantage = float(best[0] - null) if best else -np.inf
        candidate = text.text[best[1] : best[2]] if best else ""
        return [Prediction(value, probability, {"no_answer_probability": float(np.exp(null)), "advantage": advantage, "candidate": candidate})]

    def _best_span(self, start: np.ndarray, end: np.ndarray, layout: Layout) -> tuple[float, int, int] | None:
        """(log probability, first character, end character) of a window's best span of at most ``max_answer_tokens`` tokens."""
        inside = np.flatnonzero(layout.row >= 0)
        if not len(inside):
            return None
        firsts = inside[np.argsort(start[inside])[-24:]]
        length = self.config.max_answer_tokens
        score, first, last = max(
            ((start[i] + end[j], i, j) for i in firsts for j in (i + int(np.argmax(end[i : min(i + length, inside[-1] + 1)])),)),
            key=lambda found: found[0],
        )
        return float(score), int(layout.start[first]), int(layout.end[last])

    def evaluate(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> Evaluation:
        report = qa_report(golds, [p.value["text"] for p in predictions])
        numbers = {k: float(v) for k, v in report.to_dict().items() if isinstance(v, float)}
        return Evaluation(numbers, {}, {"qa": report.to_dict()}, {})

    def tune(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> list[str]:
        if not self.no_answer:
            return []
        candidates = [p.details["candidate"] for p in predictions]
        threshold, _ = best_no_answer_threshold(golds, candidates, [-p.details["advantage"] for p in predictions])
        self.no_answer_threshold = -threshold
        return [f"{self.target}: says 'no answer' unless a span is better by {self.no_answer_threshold:.2f} (log probability)"]

    def learned(self) -> dict[str, Any]:
        return {"no_answer": self.no_answer, "no_answer_threshold": self.no_answer_threshold}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.no_answer, self.no_answer_threshold = bool(state["no_answer"]), float(state["no_answer_threshold"])
