"""One label per row, or several at once, from the pooled token."""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from polydetr.core.examples import IGNORE_INDEX
from polydetr.heads.base import EncoderShape, PooledHead, Tensors, weighted_mean
from polydetr.tasks.classification import ClassificationTask
from polydetr.tasks.explained_rows import ClassAnswer


class ClassificationHead(PooledHead):
    """Cross-entropy over one label set, or binary cross-entropy per label where a row has several."""

    def __init__(self, task: ClassificationTask, embed_dim: int, *, label_smoothing: float) -> None:
        super().__init__(embed_dim, len(task.labels))
        self.multi_label, self.class_weights = task.multi_label, task.class_weights
        self.label_smoothing = label_smoothing

    @classmethod
    def from_task(cls, task: ClassificationTask, shape: EncoderShape, *, label_smoothing: float = 0.0) -> Self:
        return cls(task, shape.embed_dim, label_smoothing=label_smoothing)

    def loss(self, outputs: Tensors, targets: Tensors, weights: Tensor) -> dict[str, Tensor]:
        logits = outputs["logits"].float()
        if self.multi_label:
            scale = torch.tensor(self.class_weights, device=logits.device) if self.class_weights else None
            per_row = F.binary_cross_entropy_with_logits(
                logits, targets["labels"], pos_weight=scale, reduction="none"
            ).mean(-1)
        else:
            per_row = F.cross_entropy(
                logits,
                targets["label"],
                reduction="none",
                ignore_index=IGNORE_INDEX,
                label_smoothing=self.label_smoothing,
            )
        return {"cross_entropy": weighted_mean(per_row, self._of_rows(targets, weights))}

    def counted(self, targets: Tensors, weights: Tensor) -> Tensor:
        return self._of_rows(targets, weights).sum()

    def _of_rows(self, targets: Tensors, weights: Tensor) -> Tensor:
        """(B,): each row's weight in the loss, 0 without a label."""
        if self.multi_label:
            return weights * targets["known"]
        label = targets["label"]
        weights = weights * (label != IGNORE_INDEX)
        if not self.class_weights:
            return weights
        return weights * torch.tensor(self.class_weights, device=label.device)[label.clamp(min=0)]

    def calibration_pairs(self, outputs: Tensors, targets: Tensors) -> tuple[Tensor, Tensor] | None:
        if self.multi_label:  # each sigmoid is a softmax over (0, logit)
            known = targets["known"] > 0
            logits = outputs["logits"].float()[known].flatten()
            return torch.stack([torch.zeros_like(logits), logits], -1), targets["labels"][known].long().flatten()
        known = targets["label"] != IGNORE_INDEX
        return outputs["logits"].float()[known], targets["label"][known]

    def explained(self, answer: ClassAnswer, outputs: Tensors) -> Tensor:
        logits = outputs["logits"].mean(1) / answer.temperature
        if answer.multi_label:
            return logits[:, answer.index]
        others = [i for i in range(logits.shape[1]) if i != answer.index]
        return logits[:, answer.index] - logits[:, others].logsumexp(1)
