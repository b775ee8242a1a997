"""One label for each row, or several at once, from the pooled token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from polydetr.core.examples import IGNORE_INDEX
from polydetr.heads.base import EncoderShape, PooledHead
from polydetr.tasks.classification import ClassificationTask


class ClassificationHead(PooledHead):
    """Cross-entropy over one label set, or binary cross-entropy per label. class_weights: one per label, or None."""

    def __init__(
        self,
        embed_dim: int,
        num_labels: int,
        *,
        multi_label: bool = False,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(embed_dim, num_labels)
        self.multi_label, self.class_weights, self.label_smoothing = multi_label, class_weights, label_smoothing

    @classmethod
    def from_task(cls, task: ClassificationTask, shape: EncoderShape, *, label_smoothing: float = 0.0) -> Self:
        return cls(
            shape.embed_dim, len(task.labels), multi_label=task.multi_label, class_weights=task.class_weights,
            label_smoothing=label_smoothing,
        )  # fmt: skip

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], weights: Tensor) -> dict[str, Tensor]:
        logits = outputs["logits"].float()
        scale = torch.tensor(self.class_weights, device=logits.device) if self.class_weights else None
        if self.multi_label:
            weights = weights * targets["known"]
            per_row = F.binary_cross_entropy_with_logits(
                logits, targets["labels"], pos_weight=scale, reduction="none"
            ).mean(-1)
        else:
            label = targets["label"]
            weights = weights * (label != IGNORE_INDEX)
            if scale is not None:
                weights = weights * scale[label.clamp(min=0)]
            per_row = F.cross_entropy(
                logits, label, reduction="none", ignore_index=IGNORE_INDEX, label_smoothing=self.label_smoothing
            )
        return {"cross_entropy": (per_row * weights).sum() / weights.sum().clamp(min=1e-6)}

    def calibration_pairs(
        self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor] | None:
        if self.multi_label:  # each sigmoid is a softmax over (0, logit)
            known = targets["known"] > 0
            logits = outputs["logits"].float()[known].flatten()
            return torch.stack([torch.zeros_like(logits), logits], -1), targets["labels"][known].long().flatten()
        known = targets["label"] != IGNORE_INDEX
        return outputs["logits"].float()[known], targets["label"][known]
