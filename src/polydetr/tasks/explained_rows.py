"""Answers of one per row, explained: a class, a number, a vector."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from polydetr.core.predictions import ByLabel
from polydetr.errors import InputError, did_you_mean
from polydetr.tasks.explained import Answer, Reading

if TYPE_CHECKING:
    from polydetr.tasks.classification import ClassificationTask
    from polydetr.tasks.regression import RegressionTask


@dataclass(frozen=True)
class ClassAnswer(Answer):
    """Calibrated log-odds of a class, ln p/(1-p), of the logits averaged over the windows, as ``decode`` does.

    index: the number of the class.
    """

    quantity: ClassVar[str] = "log-odds"
    is_pooled: ClassVar[bool] = True
    index: int
    temperature: float
    multi_label: bool

    @classmethod
    def of(cls, task: ClassificationTask, reading: Reading, choice: Any) -> Self:
        """choice: a label. Raises InputError where it is none."""
        details = reading.prediction.details
        assert isinstance(details, ByLabel)
        p_of = list(details.probabilities.values())
        index = max(range(len(p_of)), key=p_of.__getitem__) if choice is None else task.classes.index(choice)
        if index is None:
            raise InputError(f"{choice!r} is not a label of {task.target!r}. {did_you_mean(str(choice), task.labels)}")
        label, p = task.labels[index], p_of[index]
        is_answered = not task.multi_label or p >= task.threshold
        chance = 0.5 if task.multi_label else 1 / len(task.labels)
        return cls(
            f"{label} ({p:.1%})" if is_answered else f"{label} ({p:.1%}, not answered)",
            index,
            task.temperature,
            task.multi_label,
            floor=chance + 0.3 * (1 - chance) if choice is None else 0.0,
        )

    def probability(self, reading: Reading) -> float:
        mean = np.stack([output["logits"] for output in reading.outputs]).mean(0, dtype=np.float64)
        logits: NDArray[np.float64] = mean / self.temperature
        others = np.zeros(1) if self.multi_label else np.delete(logits, self.index)
        log_odds = logits[self.index] - np.logaddexp.reduce(others)
        return float(np.exp(-np.logaddexp(0.0, -log_odds)))


@dataclass(frozen=True)
class ValueAnswer(Answer):
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

    @classmethod
    def of(cls, task: RegressionTask, reading: Reading) -> Self:
        value = float(reading.prediction.value)
        return cls(f"{value:.4g}", value, task.mean, task.std)

    def probability(self, reading: Reading) -> float:
        return math.exp(-0.5 * ((self.level(reading) - self.value) / self.std) ** 2)

    def level(self, reading: Reading) -> float:
        return float(reading.prediction.value)


@dataclass(frozen=True, eq=False)
class SimilarityAnswer(Answer):
    """Cosine of the row's vector, averaged over the windows as ``decode`` does, and ``vector`` (D,), of length 1."""

    quantity: ClassVar[str] = "cosine"
    measure: ClassVar[str] = "similarity"
    level_name: ClassVar[str] = "cosine"
    remark: ClassVar[str] = "The similarity is the cosine of the two vectors: 1 where they are the same."
    is_pooled: ClassVar[bool] = True
    vector: NDArray[np.floating]

    @classmethod
    def of(cls, reading: Reading, other: NDArray[np.floating]) -> Self:
        similarity = float(np.asarray(reading.prediction.value) @ other)
        return cls(f"similarity to its counterpart ({similarity:.3f})", other)

    def probability(self, reading: Reading) -> float:
        return float(np.asarray(reading.prediction.value) @ self.vector)
