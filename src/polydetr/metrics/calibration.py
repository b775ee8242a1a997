"""Whether a probability is a frequency: calibration error, temperature, and thresholds for withholding an answer.

Shapes: N rows, C classes. confidence (N,) in [0, 1]: the probability of the answer given; correct (N,) bool: whether it
was right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polydetr.errors import InputError

Array = NDArray[np.float64]
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """Mean confidence, accuracy and count of every bin that holds a row; ``edges`` are the bounds of all bins."""

    confidence: Array
    accuracy: Array
    count: NDArray[np.int64]
    edges: Array
    ece: float


@dataclass(frozen=True, eq=False)
class CoverageRisk:
    """Answer only the rows whose confidence is at least ``threshold``: their share, and how many of them are wrong.

    aurc: the mean risk over all coverages (Geifman & El-Yaniv 2017); lower is better.
    """

    threshold: Array
    coverage: Array
    risk: Array
    aurc: float


@dataclass(frozen=True, slots=True)
class Threshold:
    """Answer where confidence >= ``threshold``; coverage: the share of rows answered then, accuracy: the share of those
    that are right. ``reached`` is False where no threshold gives the accuracy asked for. rows: how many it was chosen
    on.
    """

    threshold: float
    coverage: float
    accuracy: float
    reached: bool
    rows: int

    @property
    def coverage_interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of ``coverage``."""
        return wilson_interval(self.coverage, self.rows)


def reliability_curve(confidence: ArrayLike, correct: ArrayLike, *, bins: int = 15) -> ReliabilityCurve:
    """The bins behind the calibration error, of equal width: (m-1)/M < confidence <= m/M (Guo et al. 2017, arXiv
    1706.04599).

    Raises:
        InputError: no rows, lengths differ, a confidence outside [0, 1], or ``bins`` < 1.
    """
    values, right = _confidence_and_correct(confidence, correct)
    if bins < 1:
        raise InputError(f"bins must be at least 1, got {bins}.")
    edges = np.linspace(0, 1, bins + 1)
    which = np.clip(np.searchsorted(edges, values, side="left") - 1, 0, bins - 1)
    count = np.bincount(which, minlength=bins)
    held = count > 0
    mean_confidence = np.bincount(which, values, bins)[held] / count[held]
    accuracy = np.bincount(which, right, bins)[held] / count[held]
    ece = float((count[held] * np.abs(accuracy - mean_confidence)).sum() / len(values))
    return ReliabilityCurve(mean_confidence, accuracy, count[held], edges, ece)


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike) -> float:
    """ECE = Σ_m (n_m / N) · |accuracy_m - confidence_m| over the bins of :func:`reliability_curve`."""
    return reliability_curve(confidence, correct).ece


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """The temperature T that minimizes the mean of -log softmax(z / T)[label] (Guo et al. 2017, arXiv 1706.04599,
    section 4.2).

    logits: (N, C) finite; labels: (N,) class numbers. The loss is convex in 1/T, so the bounded search over log T in
    [log 0.05, log 20] always ends, also where every row is right (T at the lower bound) or the logits carry nothing (T
    = 1). Dividing by T never changes which class is first.

    Raises:
        InputError: shapes do not fit, a label is out of range, or a logit is not finite.
    """
    from scipy.optimize import minimize_scalar  # 0.2 s to import; needed once, at the end of training

    z, numbers = np.asarray(logits, np.float64), np.asarray(labels).astype(np.int64)
    if z.ndim != 2 or numbers.shape != z.shape[:1] or not len(z):
        raise InputError(f"logits must be (N, C) with labels (N,), N >= 1; got {z.shape} and {numbers.shape}.")
    if numbers.min() < 0 or numbers.max() >= z.shape[1]:
        raise InputError(f"labels must be class numbers 0 to {z.shape[1] - 1}, got {numbers.min()} to {numbers.max()}.")
    if not np.isfinite(z).all():
        raise InputError(
            f"logits hold {int((~np.isfinite(z)).sum())} values that are not finite; temperature needs numbers."
        )
    z = z - z[np.arange(len(z)), numbers][:, None]  # the loss is now mean log Σ exp(z / T)

    def loss(log_temperature: float) -> float:
        scaled = z / np.exp(log_temperature)
        top = scaled.max(1)
        return float((top + np.log(np.exp(scaled - top[:, None]).sum(1))).mean())

    bounds = (float(np.log(LOWEST_TEMPERATURE)), float(np.log(HIGHEST_TEMPERATURE)))
    result: Any = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    best = min((0.0, *bounds, float(result.x)), key=loss)  # at a tie T = 1 wins
    return float(np.clip(np.exp(best), LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE))


def coverage_risk_curve(confidence: ArrayLike, correct: ArrayLike) -> CoverageRisk:
    """Risk (share of wrong answers) among the most confident rows, for every distinct confidence from high to low."""
    values, right = _confidence_and_correct(confidence, correct)
    order = np.argsort(-values, kind="stable")
    values, right = values[order], right[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(values)), len(values) - 1)
    answered = last_of_tie + 1
    risk = 1 - np.cumsum(right)[last_of_tie] / answered
    aurc = float((risk * np.diff(answered, prepend=0)).sum() / len(values))
    return CoverageRisk(values[last_of_tie], answered / len(values), risk, aurc)


def choose_threshold(confidence: ArrayLike, correct: ArrayLike, target_accuracy: float, *, z: float = 0.0) -> Threshold:
    """The threshold that answers the most rows while the answered ones are right at least ``target_accuracy`` of the
    time.

    z: standard errors by which it must be above ``target_accuracy`` (Wilson's lower bound), for of many thresholds the
    one that is chosen is a lucky one; not asked of the threshold that answers all rows, which is not chosen.
    Where none does, the threshold of the highest accuracy (and of those the widest coverage), with ``reached`` False.
    """
    if not 0 <= target_accuracy <= 1:
        raise InputError(f"target_accuracy must lie between 0 and 1, got {target_accuracy}.")
    curve = coverage_risk_curve(confidence, correct := np.asarray(correct))
    accuracy = 1 - curve.risk
    answered = np.rint(curve.coverage * len(correct))
    bound = np.array([wilson_interval(a, n, z=z)[0] for a, n in zip(accuracy, answered, strict=True)])
    bound[-1] = accuracy[-1]
    enough = np.flatnonzero(bound >= target_accuracy - 1e-12)
    pick = enough[-1] if len(enough) else np.flatnonzero(accuracy == accuracy.max())[-1]
    threshold = (
        0.0 if curve.coverage[pick] == 1 else float(curve.threshold[pick])
    )  # where all will do, all are answered
    return Threshold(
        threshold, float(curve.coverage[pick]), float(accuracy[pick]), len(enough) > 0, len(np.atleast_1d(confidence))
    )


def accuracy_at(curve: CoverageRisk, coverage: float) -> float:
    """The share of right answers among the most confident ``coverage`` of all rows, ties with the last one included."""
    return float(1 - curve.risk[int(np.searchsorted(curve.coverage, coverage - 1e-12))])


def coverage_table(curve: CoverageRisk, *, answer_unit: str, total: int) -> str:
    """Of ``total`` answers, what is right among the most probable tenths: one line per coverage."""
    lines = [f"{'coverage':>10}  {'accuracy':>10}  {'threshold':>10}"]
    for share in np.linspace(0.1, 1, 10):
        place = int(np.searchsorted(curve.coverage, share - 1e-12))
        lines.append(f"{curve.coverage[place]:>10.3f}  {1 - curve.risk[place]:>10.3f}  {curve.threshold[place]:>10.3f}")
    return "\n".join([*dict.fromkeys(lines), "", f"{total} answers, one per {answer_unit}; aurc {curve.aurc:.4f}", ""])


def wilson_interval(share: float, rows: int, *, z: float = 1.96) -> tuple[float, float]:
    """The confidence interval of a share of ``rows`` (Wilson 1927), by default of 95 %."""
    middle = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * float(np.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows)))
    return max(0.0, middle - half), min(1.0, middle + half)


def fit_platt(confidence: ArrayLike, correct: ArrayLike) -> tuple[float, float]:
    """(a, b) of p = 1 / (1 + exp(-(a · logit(confidence) + b))), the probability of being right (Platt 1999), fitted by
    Newton's steps on the smoothed targets of its section 2.2, so that it is finite also where every row is right.

    The slope is held above 0, so that the order of the answers never changes.
    """
    values, right = _confidence_and_correct(confidence, correct)
    x, positives = log_odds(values), right.sum()
    targets = np.where(right > 0, (positives + 1) / (positives + 2), 1 / (len(right) - positives + 2))
    design = np.stack([x, np.ones_like(x)], axis=1)
    a, b = 1.0, 0.0
    for _ in range(50):
        p = 1 / (1 + np.exp(-(a * x + b)))
        # A weak pull toward (1, 0), the confidence as it is, decides where the rows do not.
        gradient = design.T @ (p - targets) + 0.1 * np.array([a - 1, b])
        curvature = (design * (p * (1 - p))[:, None]).T @ design + 0.1 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        step *= min(1.0, 2.0 / float(np.abs(step).max() or 1.0))
        a, b = a - float(step[0]), b - float(step[1])
        if np.abs(step).max() < 1e-8:
            break
    return max(a, 0.01), b


def log_odds(confidence: ArrayLike) -> Array:
    """log(c / (1 - c)), with c held 10⁻⁶ away from 0 and 1."""
    values = np.clip(np.asarray(confidence, np.float64), 1e-6, 1 - 1e-6)
    return np.log(values / (1 - values))


def conformal_width(residuals: ArrayLike, level: float) -> float:
    """Half the width of an interval that holds a new value with probability ``level``, by split-conformal prediction
    (Lei et al. 2018, arXiv 1604.04173, algorithm 2): the ⌈(n + 1) · level⌉-th smallest of n absolute residuals of rows
    that the model did not learn from; infinite where n is too small for that level.
    """
    ordered = np.sort(np.abs(np.asarray(residuals, np.float64)))
    place = int(np.ceil((len(ordered) + 1) * level - 1e-9))
    return float(ordered[place - 1]) if place <= len(ordered) else float("inf")


def _confidence_and_correct(confidence: ArrayLike, correct: ArrayLike) -> tuple[Array, Array]:
    values, right = np.asarray(confidence, np.float64), np.asarray(correct, bool)
    if values.ndim != 1 or values.shape != right.shape or not len(values):
        raise InputError(
            f"confidence {values.shape} and correct {right.shape} must be two equal lengths of at least one row."
        )
    if not ((values >= 0) & (values <= 1 + 1e-6)).all():  # also catches NaN; float32 softmax may end a hair above 1
        raise InputError(
            f"confidence must lie in [0, 1], got {values.min()} to {values.max()}; pass probabilities, not logits."
        )
    return np.minimum(values, 1.0), right.astype(np.float64)
