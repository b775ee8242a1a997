"""One number per row, from the pooled token."""

from __future__ import annotations

from typing import Self

import torch.nn.functional as F
from torch import Tensor

from polydetr.heads.base import EncoderShape, PooledHead, Tensors, weighted_mean
from polydetr.tasks.explained_rows import ValueAnswer
from polydetr.tasks.regression import RegressionTask


class RegressionHead(PooledHead):
    """The loss is Huber's (1964), robust to outliers, of the standardized number."""

    @classmethod
    def from_task(cls, task: RegressionTask, shape: EncoderShape, *, label_smoothing: float = 0.0) -> Self:
        return cls(shape.embed_dim, 1)

    def loss(self, outputs: Tensors, targets: Tensors, weights: Tensor) -> dict[str, Tensor]:
        per_row = F.huber_loss(outputs["logits"].float()[:, 0], targets["value"], reduction="none")
        return {"huber": weighted_mean(per_row, weights * targets["known"])}

    def counted(self, targets: Tensors, weights: Tensor) -> Tensor:
        return (weights * targets["known"]).sum()

    def explained(self, answer: ValueAnswer, outputs: Tensors) -> Tensor:
        return answer.mean + answer.std * outputs["logits"][..., 0].mean(1)
