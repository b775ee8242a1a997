"""Which predicted box matches which true box, image by image, exactly as in the COCO API, at all thresholds at once.

Lin et al., "Microsoft COCO", 2014; the rules are those of cocodataset/cocoapi, ``PythonAPI/pycocotools/cocoeval.py``.
Sizes: G true boxes, D predicted ones, T thresholds of overlap, A ranges of area.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polydetr.errors import InputError, Location

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Square pixels, as COCO has them: of the image as annotated, not as the model sees it."""


@dataclass(frozen=True, slots=True)
class ImageBoxes:
    """The boxes of one image. boxes_xyxy (N, 4); labels (N,) int; scores, area (N,) float; crowd (N,) bool."""

    boxes_xyxy: NDArray[np.float64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    area: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: Any) -> ImageBoxes:
        """Those at ``places``, in that order."""
        return ImageBoxes(*(getattr(self, name)[places] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Match:
    """How the D predicted boxes of one image, sorted by falling score, match its G true ones.

    rank (D,): index of a box among those of its own label. right (A, T, D): it matches a true box. ignored (A, T, D):
    it counts neither as right nor as wrong (matches a crowd or a box of another size, or is itself of another size).
    counted (A, G): true boxes that must be found.
    """

    predicted: ImageBoxes
    gold: ImageBoxes
    rank: NDArray[np.int64]
    right: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    counted: NDArray[np.bool_]


def as_objects(
    items: Sequence[Mapping[str, Any]], label_index: Mapping[str, int], *, row: int, scored: bool = False
) -> ImageBoxes:
    """Mappings of "box" [left, top, right, bottom], "label" and, if ``scored``, "score"; else of "crowd" and "area".

    row: the image's index, for messages. A gold object without "area" has that of its box.

    Raises:
        InputError: a part is missing or not a finite number.
    """
    try:
        boxes = np.array([item["box"] for item in items], np.float64).reshape(len(items), 4)
        labels = np.array([label_index[item["label"]] for item in items], np.int64)
        scores = np.array([item["score"] if scored else 1.0 for item in items], np.float64)
    except (KeyError, TypeError, ValueError) as error:
        wanted = "box, label and score" if scored else "box and label"
        raise InputError(f"an object lacks its {wanted}: {error!r}.", location=Location(row=row + 1)) from None
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), axis=1)
    if not scored:
        area = np.array([item.get("area", a) for item, a in zip(items, area, strict=True)], np.float64)
    crowd = np.array([bool(item.get("crowd")) and not scored for item in items], np.bool_)
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        kind = "predicted" if scored else "true"
        raise InputError(f"a {kind} box or its score is not a finite number.", location=Location(row=row + 1))
    return ImageBoxes(boxes, labels, scores, crowd, area)


def overlaps(predicted_xyxy: NDArray[Any], gold_xyxy: NDArray[Any], crowd: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(D, G): intersection over union; over the predicted box's own area where the true one is a crowd."""
    corner = np.minimum(predicted_xyxy[:, None, 2:], gold_xyxy[None, :, 2:])
    sides = np.maximum(corner - np.maximum(predicted_xyxy[:, None, :2], gold_xyxy[None, :, :2]), 0.0)
    shared = sides[..., 0] * sides[..., 1]
    areas = [np.prod(np.maximum(b[:, 2:] - b[:, :2], 0.0), axis=1) for b in (predicted_xyxy, gold_xyxy)]
    whole = np.where(crowd, areas[0][:, None], areas[0][:, None] + areas[1] - shared)
    return np.divide(shared, whole, out=np.zeros(shared.shape), where=whole > 0)


def match_image(gold: ImageBoxes, predicted: ImageBoxes, *, most: int = 100) -> Match:
    """Each predicted box, the highest-scoring first, takes the free true box of its label that it overlaps most.

    A true box that is ignored is taken only where no other is left; a crowd can be taken any number of times. Of two
    equal overlaps the later box is taken. most: the highest-scoring predicted boxes of each label that count.
    """
    predicted = predicted.take(np.argsort(-predicted.scores, kind="stable"))
    rank = _rank(predicted.labels)
    predicted, rank = predicted.take(rank < most), rank[rank < most]
    low, high = np.array(list(AREAS.values())).T[..., None]
    counted = ~(gold.crowd | (gold.area < low) | (gold.area > high))
    right = np.zeros((len(AREAS), len(IOU_THRESHOLDS), len(predicted)), np.bool_)
    ignored = right.copy()
    if len(gold) and len(predicted):
        shared = overlaps(predicted.boxes_xyxy, gold.boxes_xyxy, gold.crowd)
        shared[predicted.labels[:, None] != gold.labels] = -1.0
        _take(shared, gold.crowd, counted, right, ignored)
    elsewhere = (predicted.area < low) | (predicted.area > high)
    ignored |= ~right & elsewhere[:, None]
    return Match(predicted, gold, rank, right, ignored, counted)


def _take(
    shared: NDArray[np.float64],
    crowd: NDArray[np.bool_],
    counted: NDArray[np.bool_],
    right: NDArray[np.bool_],
    ignored: NDArray[np.bool_],
) -> None:
    """Fills ``right`` and ``ignored``, one predicted box at a time over all areas and thresholds; boxes that overlap
    nothing enough are skipped.
    """
    least = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)[:, None]
    places = np.arange(shared.shape[1])
    free = np.ones((*right.shape[:2], shared.shape[1]), np.bool_)
    for d in np.flatnonzero(shared.max(1) >= least[0]):
        near = places[shared[d] >= least[0]]  # few, of perhaps thousands
        fits = (shared[d, near] >= least) & free[..., near]  # (A, T, near)
        wanted = fits & counted[:, None, near]
        some = wanted.any(-1)
        fits = np.where(some[..., None], wanted, fits)
        hit = fits.any(-1)
        best = near[len(near) - 1 - np.where(fits, shared[d, near], -1.0)[..., ::-1].argmax(-1)]
        a, t = np.nonzero(hit)
        taken = best[a, t]
        right[a, t, d] = True
        ignored[a, t, d] = ~counted[a, taken]
        free[a, t, taken] = crowd[taken]


def _rank(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of each entry among those of its own label, in the order given."""
    order = np.argsort(labels, kind="stable")
    runs = np.r_[0, np.flatnonzero(np.diff(labels[order])) + 1] if len(labels) else np.zeros(0, np.int64)
    lengths = np.diff(np.r_[runs, len(labels)])
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - np.repeat(runs, lengths)
    return rank
