"""Whether a probability means what it says: calibration error, temperature, and thresholds for holding back an answer.

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

    def to_dict(self) -> dict[str, Any]:
        arrays = {name: getattr(self, name).tolist() for name in ("confidence", "accuracy", "count", "edges")}
        return {**arrays, "ece": self.ece}


@dataclass(frozen=True, eq=False)
class CoverageRisk:
    """Answer only the rows whose confidence is at least ``threshold``: their share, and how many of them are wrong.

    aurc: the mean risk over all coverages (Geifman & El-Yaniv 2017); lower is better.
    """

    threshold: Array
    coverage: Array
    risk: Array
    aurc: float

    def to_dict(self) -> dict[str, Any]:
        return {**{n: getattr(self, n).tolist() for n in ("threshold", "coverage", "risk")}, "aurc": self.aurc}


@dataclass(frozen=True, slots=True)
class Threshold:
    """Answer where confidence >= ``threshold``. ``reached`` is False where no threshold gives the accuracy asked
    for.
    """

    threshold: float
    coverage: float
    accuracy: float
    reached: bool

    def to_dict(self) -> dict[str, Any]:
        return {
            "threshold": self.threshold,
            "coverage": self.coverage,
            "accuracy": self.accuracy,
            "reached": self.reached,
        }


def reliability_curve(
    confidence: ArrayLike, correct: ArrayLike, *, bins: int = 15, adaptive: bool = False
) -> ReliabilityCurve:
    """The bins behind the calibration error.

    Bins are of equal width, (m-1)/M < confidence <= m/M (Guo et al. 2017, arXiv 1706.04599), or with ``adaptive`` of
    equal numbers of rows (Nguyen & O'Connor 2015, arXiv 1508.05154); equal confidences always share a bin.

    Raises:
        InputError: no rows, lengths differ, a confidence outside [0, 1], or ``bins`` < 1.
    """
    values, right = _confidence_and_correct(confidence, correct)
    if bins < 1:
        raise InputError(f"bins must be at least 1, got {bins}.")
    edges = np.linspace(0, 1, bins + 1)
    if adaptive:
        upper = np.quantile(values, edges[1:], method="inverted_cdf")
        edges = np.unique(np.concatenate([[0.0], upper]))
        edges = edges if len(edges) > 1 else np.array([0.0, 1.0])
    which = np.clip(np.searchsorted(edges, values, side="left") - 1, 0, len(edges) - 2)
    count = np.bincount(which, minlength=len(edges) - 1)
    held = count > 0
    mean_confidence = np.bincount(which, values, len(edges) - 1)[held] / count[held]
    accuracy = np.bincount(which, right, len(edges) - 1)[held] / count[held]
    ece = float((count[held] * np.abs(accuracy - mean_confidence)).sum() / len(values))
    return ReliabilityCurve(mean_confidence, accuracy, count[held], edges, ece)


def expected_calibration_error(
    confidence: ArrayLike, correct: ArrayLike, *, bins: int = 15, adaptive: bool = False
) -> float:
    """ECE = Σ_m (n_m / N) · |accuracy_m - confidence_m| over the bins of :func:`reliability_curve`."""
    return reliability_curve(confidence, correct, bins=bins, adaptive=adaptive).ece


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

    z = np.asarray(logits, np.float64)
    numbers = _class_numbers(z, np.asarray(labels), "logits")
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
    found: Any = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    best = min((0.0, *bounds, float(found.x)), key=loss)  # at a tie T = 1 stands first
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


def choose_threshold(confidence: ArrayLike, correct: ArrayLike, target_accuracy: float) -> Threshold:
    """The threshold that answers the most rows while the answered ones are right at least ``target_accuracy`` of the
    time.

    Where none does, the threshold of the highest accuracy (and of those the widest coverage), with ``reached`` False.
    """
    if not 0 <= target_accuracy <= 1:
        raise InputError(f"target_accuracy must lie between 0 and 1, got {target_accuracy}.")
    curve = coverage_risk_curve(confidence, correct)
    accuracy = 1 - curve.risk
    enough = np.flatnonzero(accuracy >= target_accuracy - 1e-12)
    pick = enough[-1] if len(enough) else np.flatnonzero(accuracy == accuracy.max())[-1]
    return Threshold(float(curve.threshold[pick]), float(curve.coverage[pick]), float(accuracy[pick]), len(enough) > 0)


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


def _class_numbers(table: Array, labels: NDArray[Any], name: str) -> NDArray[np.int64]:
    if table.ndim != 2 or labels.shape != table.shape[:1] or not len(table):
        raise InputError(f"{name} must be (N, C) with labels (N,), N >= 1; got {table.shape} and {labels.shape}.")
    numbers = labels.astype(np.int64)
    if (numbers < 0).any() or (numbers >= table.shape[1]).any():
        raise InputError(
            f"labels must be class numbers 0 to {table.shape[1] - 1}, got {numbers.min()} to {numbers.max()}."
        )
    return numbers
