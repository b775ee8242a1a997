"""The first and the last token of an answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polydetr.core.examples import IGNORE_INDEX
from polydetr.heads.base import DROPOUT, EncoderShape, Head, Tensors
from polydetr.heads.explained import Counterpart, Reading, SmoothAnswer, no_choice, words_between
from polydetr.nn.batch import Encoded
from polydetr.tasks.base import log_softmax
from polydetr.tasks.qa import QuestionAnsweringTask

_OUTSIDE = -1e4
"""The scores of padding."""


class QuestionAnsweringHead(Head):
    """A start and an end score for every token, (B, L) each; token 0 stands for "no answer here"."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(DROPOUT)
        self.output = nn.Linear(embed_dim, 2)

    @classmethod
    def from_task(cls, task: QuestionAnsweringTask, shape: EncoderShape, *, label_smoothing: float = 0.0) -> Self:
        return cls(shape.embed_dim)

    def forward(self, encoded: Encoded) -> dict[str, Tensor]:
        scores = self.output(self.dropout(encoded.tokens["text"])).float()
        start, end = scores.masked_fill(~encoded.masks["text"][..., None], _OUTSIDE).unbind(-1)
        return {"start_logits": start, "end_logits": end}

    def loss(self, outputs: Tensors, targets: Tensors, weights: Tensor) -> dict[str, Tensor]:
        sums = [F.cross_entropy(outputs[f"{n}_logits"].float(), targets[n], reduction="sum") for n in ("start", "end")]
        known = (targets["start"] != IGNORE_INDEX).sum().clamp(min=1)
        return {"start": sums[0] / known / 2, "end": sums[1] / known / 2}

    def counted(self, targets: Tensors, weights: Tensor) -> Tensor:
        return (targets["start"] != IGNORE_INDEX).sum().to(weights.dtype)

    def calibration_pairs(self, outputs: Tensors, targets: Tensors) -> tuple[Tensor, Tensor] | None:
        known = targets["start"] != IGNORE_INDEX
        logits = torch.cat([outputs["start_logits"][known], outputs["end_logits"][known]]).float()
        return logits, torch.cat([targets["start"][known], targets["end"][known]])

    @classmethod
    def answer_of(
        cls, task: QuestionAnsweringTask, reading: Reading, choice: Any, *, counterpart: Counterpart
    ) -> SpanAnswer:
        no_choice(task, choice)
        value, probability = reading.prediction.value, reading.prediction.probability or 0.0
        if value["start"] is None:
            answer = SpanAnswer(f"no answer ({probability:.1%})", (0, 0), task.temperature, (0, 0, 0))
            return replace(answer, at=min(answer.places(reading))[1])
        words = words_between(reading.text, value["start"], value["end"])
        first, last = (reading.text.words[word][0] for word in (words[0], words[-1]))
        edges = (value["start"] - first, value["end"] - last)
        shown = f"{value['text']} ({probability:.1%})"
        answer = SpanAnswer(shown, edges, task.temperature, (0, 0, 0), words=tuple(words))
        return replace(answer, at=max(answer.places(reading))[1])


@dataclass(frozen=True)
class SpanAnswer(SmoothAnswer):
    """Start plus end logit of the answer in the window that gave it; where "no answer" was answered, of [CLS] in the
    window in which that is least probable.

    edges: characters of the answer's start inside its first word and of its end inside its last; at: (window, first
    token, last token).
    """

    quantity: ClassVar[str] = "start + end logit"
    edges: tuple[int, int]
    temperature: float
    at: tuple[int, int, int]

    def score(self, outputs: Tensors) -> Tensor:
        window, first, last = self.at
        return outputs["start_logits"][:, window, first] + outputs["end_logits"][:, window, last]

    def probability(self, reading: Reading) -> float:
        log_p = [log_p for log_p, _ in self.places(reading)]
        if not log_p:
            return 0.0
        return float(np.exp(max(log_p) if self.words else min(log_p)))

    def places(self, reading: Reading) -> list[tuple[float, tuple[int, int, int]]]:
        """Log probability and (window, first, last token) of the answer in every window that holds it whole."""
        places = []
        for w, (output, layout) in enumerate(zip(reading.outputs, reading.layouts, strict=True)):
            first = last = np.zeros(1, dtype=np.int64)
            if self.words:
                begin = reading.text.words[self.words[0]][0] + self.edges[0]
                end = reading.text.words[self.words[-1]][0] + self.edges[1]
                first = np.flatnonzero((layout.row >= 0) & (layout.start == begin))
                last = np.flatnonzero((layout.row >= 0) & (layout.end == end))
            if len(first) and len(last):
                size = len(layout.row)
                start = log_softmax(output["start_logits"][:size], self.temperature)[first[0]]
                stop = log_softmax(output["end_logits"][:size], self.temperature)[last[-1]]
                places.append((float(start + stop), (w, int(first[0]), int(last[-1]))))
        return places
