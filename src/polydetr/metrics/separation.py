"""How well scores separate: the area under the ROC curve, as in scikit-learn."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polydetr.errors import InputError


def auroc(scores: ArrayLike, positives: ArrayLike) -> float:
    """The chance that a random positive scores above a random negative, ties counting half (the Mann-Whitney U
    statistic).

    scores: (N,), higher = more positive; positives: (N,) bool.

    Raises:
        InputError: a score is not finite, the lengths differ, or one of the two classes is absent (the value is then
            undefined).
    """
    values, mask = _scores_and_mask(scores, positives, "auroc")
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    p, n = int(mask.sum()), int((~mask).sum())
    return float((mean_rank[inverse][mask].sum() - p * (p + 1) / 2) / (p * n))


def _finite(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if not np.isfinite(array).all():
        raise InputError(
            f"{name} holds {int((~np.isfinite(array)).sum())} values that are not finite; scores must be numbers."
        )
    return array


def _scores_and_mask(
    scores: ArrayLike, positives: ArrayLike, name: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values, mask = _finite(scores, "scores"), np.asarray(positives, bool)
    if values.ndim != 1 or values.shape != mask.shape:
        raise InputError(f"{name} needs one score for each row: scores {values.shape}, positives {mask.shape}.")
    if mask.all() or not mask.any():
        raise InputError(
            f"{name} needs positive and negative rows; of {mask.size} rows {int(mask.sum())} are positive."
        )
    return values, mask
