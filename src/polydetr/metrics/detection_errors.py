"""What kind of mistake each predicted box is, and which objects were missed: for confusion matrix and mistakes page.

The kinds follow TIDE (Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polydetr.metrics.box_matching import ImageBoxes, overlaps

BACKGROUND = "background"
NEAR = 0.1
"""A box of a smaller overlap with every object is invented."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One predicted box, or one true box that was missed.

    kind: "right"; "confused": matches an object of another label; "duplicate": of an object that a box of a higher
    score matches; "misplaced": its overlap is between 0.1 and 0.5; "invented": no object is there; "missed": a true
    box that no predicted one matches; "ignored": on a crowd. predicted, gold: indices of the two boxes in the image's
    lists, as they were given to the report. overlap: of the two.
    """

    image: int
    kind: str
    predicted: int | None
    gold: int | None
    overlap: float
    score: float


_IOU = 0.5  # overlap from which a box stands for an object


def outcomes(image: int, gold: ImageBoxes, predicted: ImageBoxes, *, threshold: float = 0.0) -> list[Outcome]:
    """Every predicted box of at least ``threshold``, highest-scoring first, then every object that none matches.

    Boxes meet objects of their own label first, as in the COCO API; what is left on either side may meet across
    labels, largest overlap first: these are the confusions.
    """
    order = np.argsort(-predicted.scores, kind="stable")
    order = order[predicted.scores[order] >= threshold]
    shared = overlaps(predicted.boxes_xyxy[order], gold.boxes_xyxy, gold.crowd)  # (D, G)
    same = predicted.labels[order][:, None] == gold.labels
    taken = _own_label(np.where(same & ~gold.crowd, shared, 0.0))
    right = taken >= 0
    confused = _across(np.where(~same & ~gold.crowd, shared, 0.0), taken)
    out = []
    for d, place in enumerate(order):
        own, crowded = shared[d] * (same[d] & ~gold.crowd), shared[d] * (same[d] & gold.crowd)
        near = int(own.argmax()) if len(gold) else 0
        if taken[d] >= 0:
            kind, target = ("right" if right[d] else "confused"), int(taken[d])
        elif len(gold) and crowded.max() >= _IOU:
            kind, target = "ignored", int(crowded.argmax())
        elif len(gold) and own[near] >= NEAR:
            kind, target = ("duplicate" if own[near] >= _IOU else "misplaced"), near
        else:
            kind, target = "invented", None
        overlap = 0.0 if target is None else float(shared[d, target])
        out.append(Outcome(image, kind, int(place), target, overlap, float(predicted.scores[place])))
    met = set(taken[right | confused].tolist())
    missed = [g for g in range(len(gold)) if g not in met and not gold.crowd[g]]
    return out + [Outcome(image, "missed", None, g, 0.0, 0.0) for g in missed]


def _own_label(shared: NDArray[np.float64]) -> NDArray[np.int64]:
    """(D,): the true box that each predicted one takes, -1 for none; rows are sorted by falling score."""
    taken = np.full(len(shared), -1)
    free = np.ones(shared.shape[1], np.bool_)
    for d in np.flatnonzero(shared.max(1, initial=0.0) >= _IOU):
        best = int(np.where(free, shared[d], -1.0).argmax())
        if free[best] and shared[d, best] >= _IOU:
            taken[d], free[best] = best, False
    return taken


def _across(shared: NDArray[np.float64], taken: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Pairs what is left, largest overlap first; enters the pairs into ``taken`` and gives the (D,) new ones."""
    new = np.zeros(len(taken), np.bool_)
    gone = set(taken[taken >= 0].tolist())
    pairs = np.argwhere(shared >= _IOU)
    for d, g in pairs[np.argsort(-shared[tuple(pairs.T)], kind="stable")].tolist():
        if taken[d] < 0 and g not in gone:
            taken[d], new[d] = g, True
            gone.add(g)
    return new


def confusion_counts(
    gold: Sequence[ImageBoxes], predicted: Sequence[ImageBoxes], all_outcomes: Sequence[Outcome], classes: int
) -> NDArray[np.int64]:
    """(C + 1, C + 1): rows the true label, columns the predicted one; the last of either is the background.

    The background's row holds boxes where no free object is (duplicate, misplaced, invented), its column objects that
    were missed. Crowds are in neither.
    """
    matrix = np.zeros((classes + 1, classes + 1), np.int64)
    for one in all_outcomes:
        if one.kind == "ignored":
            continue
        stands_for = one.gold if one.kind in ("right", "confused", "missed") else None
        row = classes if stands_for is None else gold[one.image].labels[stands_for]
        column = classes if one.predicted is None else predicted[one.image].labels[one.predicted]
        matrix[row, column] += 1
    return matrix
