"""Scores of predicted numbers. gold and predicted: (N,) finite floats; definitions as in scikit-learn and SciPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polydetr.errors import InputError


@dataclass(frozen=True, slots=True)
class RegressionReport:
    """All scores of one numeric target; ``spearman`` and ``r2`` are 0 where the gold values do not vary."""

    rmse: float
    mae: float
    median_absolute_error: float
    r2: float
    spearman: float
    total: int

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def regression_report(gold: ArrayLike, predicted: ArrayLike) -> RegressionReport:
    """Every score at once.

    Raises:
        InputError: lengths differ, no rows, or a value that is not finite.
    """
    true, found = _pair(gold, predicted)
    return RegressionReport(
        rmse=rmse(true, found),
        mae=mae(true, found),
        median_absolute_error=median_absolute_error(true, found),
        r2=r2(true, found),
        spearman=spearman(true, found),
        total=len(true),
    )


def rmse(gold: ArrayLike, predicted: ArrayLike) -> float:
    """√(mean (y - ŷ)²), in the unit of the target."""
    true, found = _pair(gold, predicted)
    return float(np.sqrt(((true - found) ** 2).mean()))


def mae(gold: ArrayLike, predicted: ArrayLike) -> float:
    """mean |y - ŷ|, in the unit of the target."""
    true, found = _pair(gold, predicted)
    return float(np.abs(true - found).mean())


def median_absolute_error(gold: ArrayLike, predicted: ArrayLike) -> float:
    """median |y - ŷ|: unlike the mean it ignores a few wild rows."""
    true, found = _pair(gold, predicted)
    return float(np.median(np.abs(true - found)))


def r2(gold: ArrayLike, predicted: ArrayLike) -> float:
    """1 - Σ (y - ŷ)² / Σ (y - ȳ)²; where the gold values do not vary, 1 if every prediction is exact, else 0."""
    true, found = _pair(gold, predicted)
    rest, spread = ((true - found) ** 2).sum(), ((true - true.mean()) ** 2).sum()
    if spread == 0:
        return float(rest == 0)
    return float(1 - rest / spread)


def spearman(gold: ArrayLike, predicted: ArrayLike) -> float:
    """Pearson correlation of the ranks, ties sharing their mean rank; 0 where either side does not vary."""
    true, found = (mean_ranks(values) for values in _pair(gold, predicted))
    true, found = true - true.mean(), found - found.mean()
    root = np.sqrt((true @ true) * (found @ found))
    return float(np.clip(true @ found / root, -1, 1)) if root > 0 else 0.0


def mean_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _pair(gold: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    true, found = np.asarray(gold, np.float64), np.asarray(predicted, np.float64)
    if true.ndim != 1 or true.shape != found.shape or not len(true):
        raise InputError(
            f"gold {true.shape} and predicted {found.shape} must be two equal lengths of at least one number."
        )
    for name, values in (("gold", true), ("predicted", found)):
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise InputError(f"{name} row {row + 1} is {values[row]}; regression scores need finite numbers.")
    return true, found
