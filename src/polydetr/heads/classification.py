"""One label per row, or several at once, from the pooled token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from polydetr.core.examples import IGNORE_INDEX
from polydetr.errors import InputError, did_you_mean
from polydetr.heads.base import EncoderShape, PooledHead, Tensors, weighted_mean
from polydetr.heads.explained import Counterpart, Reading, SmoothAnswer
from polydetr.tasks.base import details_of
from polydetr.tasks.classification import ClassDetails, ClassificationTask


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

    @classmethod
    def answer_of(
        cls, task: ClassificationTask, reading: Reading, choice: Any, *, counterpart: Counterpart
    ) -> ClassAnswer:
        """choice: a label."""
        p_of = list(details_of(reading.prediction, ClassDetails).probabilities.values())
        index = max(range(len(p_of)), key=p_of.__getitem__) if choice is None else task.classes.index(choice)
        if index is None:
            raise InputError(f"{choice!r} is not a label of {task.target!r}. {did_you_mean(str(choice), task.labels)}")
        label, p = task.labels[index], p_of[index]
        is_answered = not task.multi_label or p >= task.threshold
        chance = 0.5 if task.multi_label else 1 / len(task.labels)
        return ClassAnswer(
            f"{label} ({p:.1%})" if is_answered else f"{label} ({p:.1%}, not answered)",
            index,
            task.temperature,
            task.multi_label,
            floor=chance + 0.3 * (1 - chance) if choice is None else 0.0,
        )


@dataclass(frozen=True)
class ClassAnswer(SmoothAnswer):
    """Calibrated log-odds of a class, ln p/(1-p), of the logits averaged over the windows, as ``decode`` does.

    index: the number of the class.
    """

    quantity: ClassVar[str] = "log-odds"
    is_pooled: ClassVar[bool] = True
    index: int
    temperature: float
    multi_label: bool

    def score(self, outputs: Tensors) -> Tensor:
        logits = outputs["logits"].mean(1) / self.temperature
        if self.multi_label:
            return logits[:, self.index]
        others = [i for i in range(logits.shape[1]) if i != self.index]
        return logits[:, self.index] - logits[:, others].logsumexp(1)

    def probability(self, reading: Reading) -> float:
        mean = np.mean([output["logits"] for output in reading.outputs], axis=0)
        return float(torch.sigmoid(self.score({"logits": torch.from_numpy(mean)[None, None].double()}))[0])
