"""A label for every word, from its first token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn

from polydetr.core.examples import IGNORE_INDEX
from polydetr.heads.base import EncoderShape, Head
from polydetr.nn.batch import Encoded
from polydetr.tasks.tagging import TaggingTask


class TokenHead(nn.Module):
    """A linear output over every token of one group: "logits" (B, L, num_labels)."""

    def __init__(self, embed_dim: int, num_labels: int, *, group: str = "text", dropout: float = 0.1) -> None:
        super().__init__()
        self.group = group
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(embed_dim, num_labels)

    def forward(self, encoded: Encoded) -> dict[str, Tensor]:
        return {"logits": self.output(self.dropout(encoded.tokens[self.group]))}


class TaggingHead(TokenHead, Head):
    """Cross-entropy, a mean over labelled words."""

    def __init__(self, embed_dim: int, num_labels: int, *, label_smoothing: float = 0.0) -> None:
        super().__init__(embed_dim, num_labels)
        self.label_smoothing = label_smoothing

    @classmethod
    def from_task(cls, task: TaggingTask, shape: EncoderShape, *, label_smoothing: float = 0.0) -> Self:
        return cls(shape.embed_dim, len(task.labels), label_smoothing=label_smoothing)

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], weights: Tensor) -> dict[str, Tensor]:
        labels = targets["labels"]
        here = labels != IGNORE_INDEX
        logits = outputs["logits"][here].float()
        total = F.cross_entropy(logits, labels[here], reduction="sum", label_smoothing=self.label_smoothing)
        return {"cross_entropy": total / here.sum().clamp(min=1)}

    def calibration_pairs(
        self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor] | None:
        here = targets["labels"] != IGNORE_INDEX
        return outputs["logits"].float()[here], targets["labels"][here]
