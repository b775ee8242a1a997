"""Scores of predicted numbers, defined as in scikit-learn and SciPy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polydetr.errors import InputError


@dataclass(frozen=True, slots=True)
class RegressionReport:
    """All scores of one numeric target; y: gold values, ŷ: predicted ones, ȳ: the mean of y.

    rmse = √(mean (y - ŷ)²), mae = mean |y - ŷ|, median_absolute_error = median |y - ŷ| (which ignores a few wild rows):
    in the unit of the target. r2 = 1 - Σ (y - ŷ)² / Σ (y - ȳ)²; where y does not vary, 1 if every prediction is exact,
    else 0. spearman: Pearson correlation of the ranks, ties sharing their mean rank; 0 where either side does not vary.
    total: the number of rows.
    """

    rmse: float
    mae: float
    median_absolute_error: float
    r2: float
    spearman: float
    total: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def regression_report(gold: ArrayLike, predicted: ArrayLike) -> RegressionReport:
    """Every score at once. gold and predicted: (N,) finite numbers.

    Raises:
        InputError: lengths differ, no rows, or a value that is not finite.
    """
    y, y_hat = np.asarray(gold, np.float64), np.asarray(predicted, np.float64)
    if y.ndim != 1 or y.shape != y_hat.shape or not len(y):
        raise InputError(f"gold {y.shape} and predicted {y_hat.shape} must be of one length, at least one number.")
    for name, values in (("gold", y), ("predicted", y_hat)):
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise InputError(f"{name} row {row + 1} is {values[row]}; regression scores need finite numbers.")
    error = y - y_hat
    # Where y does not vary, its mean may still be a rounding error away from it.
    rest, spread = (error**2).sum(), ((y - y.mean()) ** 2).sum() if np.ptp(y) else 0.0
    return RegressionReport(
        rmse=float(np.sqrt((error**2).mean())),
        mae=float(np.abs(error).mean()),
        median_absolute_error=float(np.median(np.abs(error))),
        r2=float(1 - rest / spread if spread else rest == 0),
        spearman=_correlation(mean_ranks(y), mean_ranks(y_hat)),
        total=len(y),
    )


def mean_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Pearson's; 0 where either side does not vary."""
    first, second = first - first.mean(), second - second.mean()
    root = np.sqrt((first @ first) * (second @ second))
    return float(np.clip(first @ second / root, -1, 1)) if root > 0 else 0.0
