"""Unlabelled rows as more rows of the classifier, where its answers to them are to be believed (Yarowsky 1995; with a
threshold on calibrated confidence as in FixMatch, Sohn et al. 2020, arXiv 2001.07685).

The confidence is the one of the contract (``tasks.confidence``): it rests on rows that the answering head had not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from polydetr.tasks.confidence import Calibration
from polydetr.training.linear_head import (
    Array,
    Chosen,
    Features,
    Labels,
    LinearHead,
    parted,
)

ACCURACY = 0.9
"""Answers at least so often right become labels."""
WEIGHT = 0.5
"""What an unlabelled row counts beside a labeled one."""


@dataclass(frozen=True)
class SelfTraining:
    """calibration, least: an answer whose probability of being right is below ``least`` becomes no label. chosen: the
    choice before, with the cross-validated logits that self-training gives.
    """

    calibration: Calibration
    least: float
    chosen: Chosen

    def fit(
        self, features: Features, labels: Labels, rows: NDArray[np.integer] | None = None
    ) -> tuple[LinearHead, int]:
        """A head on the rows (all of them where None) and the unlabelled ones that are believed, and how many these
        are.
        """
        head = self.chosen.recipe.fit(features, labels, rows, tolerance=1e-4)
        assert features.more is not None
        logits = head.logits(features.more)
        sure = np.array([self.calibration(c) for c in confidences(logits, labels)]) >= self.least
        if not sure.any():
            return head, 0
        own, known = (features.rows, labels) if rows is None else (features.rows[rows], labels.of(rows))
        more = _answered(logits[sure], labels)
        both = known.and_also(more, weight=WEIGHT)
        together = Features(np.r_[own, features.more[sure]], features.names)
        return self.chosen.recipe.fit(together, both, start=head, tolerance=1e-5), int(sure.sum())


def choose_self_training(
    folded: Sequence[Features], labels: Labels, folds: NDArray[np.int64], chosen: Chosen
) -> SelfTraining | None:
    """Self-training, where it lowers the loss of held-out rows; None where it does not, or where no answers are right
    often enough.
    """
    held = np.flatnonzero(folds >= 0)
    answered, own = chosen.logits[held], labels.of(held)
    answers = list(zip(confidences(answered, own).tolist(), own.right(answered).tolist(), strict=True))
    calibration = Calibration.fit(answers, rescale=True, rows=len(answers), apart=True)
    threshold = calibration.threshold(ACCURACY)
    if threshold is None or not threshold.reached:
        return None
    candidate = SelfTraining(calibration, max(threshold.threshold, ACCURACY), chosen)
    logits = np.full_like(chosen.logits, np.nan)
    for number, (rows, out) in enumerate(parted(folds)):
        head, _ = candidate.fit(folded[number], labels, rows)
        logits[out] = head.logits(folded[number].rows[out])
    found = Chosen.of(chosen.recipe, logits, labels, train_loss=chosen.train_loss)
    if found.loss >= chosen.loss or found.accuracy < chosen.accuracy:
        return None
    return replace(candidate, chosen=found)


def confidences(logits: Array, labels: Labels) -> Array:
    """(N,) the probability of each row's answer as the logits (N, C) give it."""
    if labels.several:
        return np.prod(1 / (1 + np.exp(-np.abs(logits))), axis=1)
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised.max(1) / raised.sum(1)


def _answered(logits: Array, labels: Labels) -> Labels:
    y = (logits > 0).astype(np.float64) if labels.several else np.eye(logits.shape[1])[logits.argmax(1)]
    return Labels(y, labels.several, np.ones(len(y)))
