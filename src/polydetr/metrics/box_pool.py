"""The predicted boxes of all images by falling score, and their precision and recall.

A: ranges of area, T: thresholds of overlap, N: predicted boxes, C: labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polydetr.metrics.box_matching import Match
from polydetr.metrics.classification import safe_ratio

RECALL_POINTS = np.linspace(0.0, 1.0, 101)
HALF = 0  # the index of 0.5 among the thresholds of overlap


@dataclass(frozen=True)
class BoxPool:
    """All N predicted boxes of all images, by falling score, and the number of true ones, ``to_find``. The other fields
    are those of ``Match``.
    """

    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    rank: NDArray[np.int64]
    right: NDArray[np.bool_]  # (A, T, N)
    ignored: NDArray[np.bool_]  # (A, T, N)
    to_find: NDArray[np.int64]  # (A, C)
    images: int

    @classmethod
    def of(cls, matches: Sequence[Match], classes: int) -> BoxPool:
        scores = np.concatenate([m.predicted.scores for m in matches])
        order = np.argsort(-scores, kind="stable")

        def joined(name: str) -> NDArray[Any]:
            return np.concatenate([getattr(m, name) for m in matches], axis=-1)[..., order]

        gold_labels = np.concatenate([m.gold.labels for m in matches])
        counted = np.concatenate([m.counted for m in matches], axis=1)
        to_find = np.stack([np.bincount(gold_labels[row], minlength=classes) for row in counted])
        labels = np.concatenate([m.predicted.labels for m in matches])[order]
        rank, right, ignored = (joined(name) for name in ("rank", "right", "ignored"))
        return cls(labels, scores[order], rank, right, ignored, to_find, len(matches))

    def counts(self, keep: NDArray[np.bool_], area: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Two of (T, n): how many of the first 1, 2, … n boxes kept are right, and how many are wrong."""
        right, ignored = self.right[area][:, keep], self.ignored[area][:, keep]
        return np.cumsum(right & ~ignored, 1, dtype=float), np.cumsum(~right & ~ignored, 1, dtype=float)

    def best_threshold(self) -> float:
        """The score from which on F1 over all boxes is largest, at an overlap of 0.5; 0.5 where there is no box."""
        right, wrong = (c[HALF] for c in self.counts(np.ones(len(self.scores), np.bool_), 0))
        if not len(right):
            return 0.5
        f1 = safe_ratio(2 * right, right + wrong + self.to_find[0].sum())
        f1[:-1][self.scores[:-1] == self.scores[1:]] = -1.0  # boxes of one score come and go together
        return float(self.scores[f1.argmax()])


def average_precision(right: NDArray[np.float64], wrong: NDArray[np.float64], to_find: int) -> NDArray[np.float64]:
    """Interpolated precision (T, 101): at each of the 101 recalls, the best precision at that recall or a higher one.

    right, wrong: see ``BoxPool.counts``; to_find: the number of true boxes.
    """
    recall = right / to_find
    precision = safe_ratio(right, right + wrong)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    places = np.stack([np.searchsorted(row, RECALL_POINTS, side="left") for row in recall])
    padded = np.pad(precision, ((0, 0), (0, 1)))
    return np.take_along_axis(padded, places, axis=1)
