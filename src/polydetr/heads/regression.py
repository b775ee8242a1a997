"""One number per row, from the pooled token."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch.nn.functional as F
from torch import Tensor

from polydetr.heads.base import EncoderShape, PooledHead, Tensors, weighted_mean
from polydetr.heads.explained import Counterpart, Reading, SmoothAnswer, no_choice
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

    @classmethod
    def answer_of(cls, task: RegressionTask, reading: Reading, choice: Any, *, counterpart: Counterpart) -> ValueAnswer:
        no_choice(task, choice)
        value = float(reading.prediction.value)
        return ValueAnswer(f"{value:.4g}", value, task.mean, task.std)


@dataclass(frozen=True)
class ValueAnswer(SmoothAnswer):
    """The predicted number, in its own unit.

    A number has no probability. In its place stands the likelihood of the answer relative to that in the whole row,
    under a normal distribution with the standard deviation of the training values: exp(-(Δ/σ)²/2).
    """

    quantity: ClassVar[str] = "value"
    measure: ClassVar[str] = "likelihood"
    level_name: ClassVar[str] = "value"
    remark: ClassVar[str] = (
        "A number has no probability: the deletion check counts the likelihood of the number relative to that of the "
        "whole row, under a normal distribution as wide as the training values."
    )
    signed: ClassVar[bool] = False
    is_pooled: ClassVar[bool] = True
    value: float
    mean: float
    std: float

    def score(self, outputs: Tensors) -> Tensor:
        return self.mean + self.std * outputs["logits"][..., 0].mean(1)

    def probability(self, reading: Reading) -> float:
        return math.exp(-0.5 * ((self.level(reading) - self.value) / self.std) ** 2)

    def level(self, reading: Reading) -> float:
        return float(reading.prediction.value)
