"""How well scores separate two classes: the area under the ROC curve, as in scikit-learn."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from polydetr.errors import InputError
from polydetr.metrics.regression import mean_ranks


def auroc(scores: ArrayLike, positives: ArrayLike) -> float:
    """The chance that a random positive scores above a random negative, ties counting half (the Mann-Whitney U
    statistic).

    scores: (N,), higher = more positive; positives: (N,) bool.

    Raises:
        InputError: a score is not finite, the lengths differ, or one of the two classes is absent (the value is then
            undefined).
    """
    values, mask = np.asarray(scores, np.float64), np.asarray(positives, bool)
    if values.ndim != 1 or values.shape != mask.shape or not np.isfinite(values).all():
        raise InputError(f"auroc needs one finite score per row: scores {values.shape}, positives {mask.shape}.")
    p, n = int(mask.sum()), int((~mask).sum())
    if not p or not n:
        raise InputError(f"auroc needs positive and negative rows; of {mask.size} rows {p} are positive.")
    return float((mean_ranks(values)[mask].sum() - p * (p + 1) / 2) / (p * n))
