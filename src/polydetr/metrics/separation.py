"""How well scores separate: area under the ROC curve, average precision, top-k accuracy. Definitions as in
scikit-learn.
"""

from __future__ import annotations

from collections.abc import Sequence

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


def average_precision(scores: ArrayLike, positives: ArrayLike) -> float:
    """Σ_n (R_n - R_{n-1}) P_n over the distinct thresholds, no interpolation (scikit-learn's definition).

    Takes and raises what :func:`auroc` does.
    """
    values, mask = _scores_and_mask(scores, positives, "average_precision")
    order = np.argsort(-values, kind="stable")
    values, mask = values[order], mask[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(values)), len(values) - 1)
    hits = np.cumsum(mask)[last_of_tie]
    precision, recall = hits / (last_of_tie + 1), hits / hits[-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def top_k_accuracy(gold: Sequence[int], scores: ArrayLike, k: int = 5) -> float:
    """The share of rows whose gold class is among the ``k`` highest scores.

    gold: (N,) class numbers; scores: (N, C). A tie at the k-th place is resolved against the model: equal scores rank
    ahead of the gold.
    """
    table = _finite(scores, "scores")
    if table.ndim != 2 or len(table) != len(gold) or k < 1:
        raise InputError(
            f"top_k_accuracy needs scores (N, C) for N = {len(gold)} rows and k >= 1, got {table.shape}, k = {k}."
        )
    own = table[np.arange(len(gold)), np.asarray(gold)]
    return float(((table >= own[:, None]).sum(1) <= k).mean())


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
