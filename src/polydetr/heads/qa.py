"""The first and the last token of an answer."""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polydetr.core.examples import IGNORE_INDEX
from polydetr.heads.base import DROPOUT, EncoderShape, Head, Tensors
from polydetr.nn.batch import Encoded
from polydetr.tasks.explained_spans import SpanAnswer
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

    def explained(self, answer: SpanAnswer, outputs: Tensors) -> Tensor:
        window, first, last = answer.at
        return outputs["start_logits"][:, window, first] + outputs["end_logits"][:, window, last]
