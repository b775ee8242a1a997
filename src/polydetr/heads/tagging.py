"""A label per word, from its first token."""

from __future__ import annotations

from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn

from polydetr.core.examples import IGNORE_INDEX
from polydetr.heads.base import DROPOUT, EncoderShape, Head, Tensors
from polydetr.nn.batch import Encoded
from polydetr.tasks.explained_spans import TagAnswer
from polydetr.tasks.tagging import TaggingTask


class TokenHead(nn.Module):
    """A linear output over every token of the text: "logits" (B, L, num_labels)."""

    def __init__(self, embed_dim: int, num_labels: int, *, dropout: float = DROPOUT) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(embed_dim, num_labels)

    def forward(self, encoded: Encoded) -> dict[str, Tensor]:
        return {"logits": self.output(self.dropout(encoded.tokens["text"]))}


class TaggingHead(TokenHead, Head):
    """Cross-entropy, a mean over labeled words."""

    def __init__(self, embed_dim: int, num_labels: int, *, label_smoothing: float = 0.0) -> None:
        super().__init__(embed_dim, num_labels)
        self.label_smoothing = label_smoothing

    @classmethod
    def from_task(cls, task: TaggingTask, shape: EncoderShape, *, label_smoothing: float = 0.0) -> Self:
        return cls(shape.embed_dim, len(task.labels), label_smoothing=label_smoothing)

    def loss(self, outputs: Tensors, targets: Tensors, weights: Tensor) -> dict[str, Tensor]:
        labels = targets["labels"]
        here = labels != IGNORE_INDEX
        logits = outputs["logits"][here].float()
        total = F.cross_entropy(logits, labels[here], reduction="sum", label_smoothing=self.label_smoothing)
        return {"cross_entropy": total / here.sum().clamp(min=1)}

    def counted(self, targets: Tensors, weights: Tensor) -> Tensor:
        return (targets["labels"] != IGNORE_INDEX).sum().to(weights.dtype)

    def calibration_pairs(self, outputs: Tensors, targets: Tensors) -> tuple[Tensor, Tensor] | None:
        here = targets["labels"] != IGNORE_INDEX
        return outputs["logits"].float()[here], targets["labels"][here]

    def explained(self, answer: TagAnswer, outputs: Tensors) -> Tensor:
        windows, tokens = map(list, zip(*answer.owners, strict=True))
        log_p = (outputs["logits"][:, windows, tokens] / answer.temperature).log_softmax(-1)  # (n, words, C)
        return log_p[:, range(len(answer.labels)), answer.labels].sum(1)
