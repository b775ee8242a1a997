"""Two numbers for each row, from the pooled token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch.nn.functional as F
from torch import Tensor

from polydetr.heads.base import EncoderShape, PooledHead

from .explained import MiddleAnswer
from .task import IntervalTask


class IntervalHead(PooledHead):
    @classmethod
    def from_task(cls, task: IntervalTask, shape: EncoderShape, *, label_smoothing: float = 0.0) -> Self:
        return cls(shape.embed_dim, 2)

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], weights: Tensor) -> dict[str, Tensor]:
        weights = weights * targets["known"]
        per_row = F.huber_loss(outputs["logits"].float(), targets["ends"], reduction="none").mean(1)
        return {"ends": (per_row * weights).sum() / weights.sum().clamp(min=1e-6)}

    def explained(self, answer: MiddleAnswer, outputs: Mapping[str, Tensor]) -> Tensor:
        return answer.mean + answer.std * outputs["logits"][..., 0].mean(1)
