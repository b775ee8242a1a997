"""When to believe an answer: the probability that it is right, learned on rows that did not choose the weights, and
answers withheld below one (docs/adr/0012).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from polydetr.core.predictions import Prediction
from polydetr.metrics.calibration import Threshold, choose_threshold, fit_platt, log_odds

MIN_ANSWERS = 20
"""With fewer answers to learn from, a confidence stays as the model gives it."""
MOST_ANSWERS = 2000
"""Answers that are kept with the model to choose thresholds by."""


@dataclass(frozen=True)
class Calibration:
    """From a task's own confidence to the probability of being right, and what that rests on.

    slope, offset: p = sigmoid(slope · logit(confidence) + offset), see ``fit_platt``. rows: validation rows it was
    fitted on, 0 where it was not; apart: whether they had no part in choosing the weights. probability, right: of the
    answers to these rows, ``MOST_ANSWERS`` at most.
    """

    slope: float = 1.0
    offset: float = 0.0
    rows: int = 0
    apart: bool = True
    probability: Sequence[float] = ()
    right: Sequence[bool] = ()

    @classmethod
    def fit(cls, answers: Sequence[tuple[float, bool]], *, rescale: bool, rows: int, apart: bool) -> Calibration:
        """Learned from (confidence, whether it was right) of each answer. rescale: whether confidences are mapped
        anew.
        """
        confidence, right = np.array([c for c, _ in answers]), np.array([r for _, r in answers], dtype=bool)
        slope, offset = fit_platt(confidence, right) if rescale and len(answers) >= MIN_ANSWERS else (1.0, 0.0)
        fitted = cls(slope, offset, rows, apart)
        order = np.argsort(confidence, kind="stable")
        order = order[np.unique(np.linspace(0, len(order) - 1, min(len(order), MOST_ANSWERS)).astype(int))]
        kept = [round(fitted(c), 6) for c in confidence[order].tolist()]
        return replace(fitted, probability=kept, right=right[order].tolist())

    def __call__(self, confidence: float) -> float:
        """The probability that an answer of this confidence is right."""
        if (self.slope, self.offset) == (1.0, 0.0):
            return confidence
        return float(1 / (1 + np.exp(-(self.slope * log_odds(confidence) + self.offset))))

    def threshold(self, accuracy: float) -> Threshold | None:
        """The probability from which on answers are right ``accuracy`` of the time; None where no row tells."""
        if not len(self.probability):
            return None
        chosen = choose_threshold(self.probability, self.right, accuracy, z=1.0)
        # Where all answers together are right often enough, the least probable of new rows are answered too.
        return replace(chosen, threshold=0.0) if chosen.reached and chosen.coverage == 1 else chosen

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "probability": list(self.probability), "right": "".join("01"[r] for r in self.right)}


class SavedCalibration(BaseModel):
    """A ``Calibration`` as a model folder holds it."""

    model_config = ConfigDict(defer_build=True, extra="forbid", strict=True, allow_inf_nan=False)

    slope: float = Field(gt=0)
    offset: float
    rows: int = Field(ge=0)
    apart: bool
    probability: list[Annotated[float, Field(ge=0, le=1)]]
    right: str = Field(pattern="^[01]*$", description="one digit per probability")

    @model_validator(mode="after")
    def _as_long_as_one_another(self) -> Self:
        if len(self.right) != len(self.probability):
            raise ValueError(f"{len(self.probability)} probabilities and {len(self.right)} digits of right or wrong")
        return self

    def restored(self) -> Calibration:
        return Calibration(**{**self.model_dump(), "right": [digit == "1" for digit in self.right]})


def withhold_row(prediction: Prediction, least: float) -> Prediction:
    """The one answer of a row, withheld where it is less probable than ``least``."""
    unsure = prediction.probability is not None and prediction.probability < least
    return replace(prediction, abstained=True) if unsure else prediction


def withhold_items(prediction: Prediction, least: float) -> Prediction:
    """A list of answers, each of which is marked where it is less probable than ``least``."""
    value = [{**item, "abstained": True} if item["probability"] < least else item for item in prediction.value]
    return replace(prediction, value=value)
