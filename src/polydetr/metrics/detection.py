"""COCO's scores of predicted boxes (AP and AR over overlaps of 0.5 to 0.95), in NumPy alone; equal to the COCO API's.

The evaluation is part of the core because training chooses the best weights by it; it needs no compiled package.
Scores that have nothing to stand on (no large object, say) are NaN here and null in JSON, -1 in the COCO API.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polydetr.errors import InputError, shown
from polydetr.metrics.box_matching import AREAS, IOU_THRESHOLDS, as_objects, match_image
from polydetr.metrics.box_pool import HALF, RECALL_POINTS, BoxPool, average_precision
from polydetr.metrics.classification import display_width, safe_ratio, sorted_labels
from polydetr.metrics.detection_errors import BACKGROUND, Outcome, confusion_counts, outcomes

_FEW = (1, 10, 100)  # predicted boxes per image and label, for average recall
_THREE_QUARTERS = 5  # its index in IOU_THRESHOLDS


@dataclass(frozen=True, slots=True)
class DetectionRow:
    """One label. ap: mean over overlaps 0.5 to 0.95; ar: the recall with 100 boxes per image, likewise; precision,
    recall and f1 at an overlap of 0.5 and the report's threshold; support: objects that are no crowds.
    """

    label: str
    ap: float
    ap_50: float
    ap_75: float
    ar: float
    precision: float
    recall: float
    f1: float
    support: int

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__ if name != "label"}


@dataclass(frozen=True)
class DetectionReport:
    """The twelve COCO figures, the same by label, and what the mistakes are.

    threshold: the score from which on F1 over all boxes is largest (overlap 0.5), unless one was given. confusion
    (C + 1, C + 1), rows true, columns predicted, the last of both the background, and ``outcomes`` are taken at it.
    curves: for each label (T, 101), the best precision that is still reached at each of COCO's 101 recalls, by overlap.
    """

    map: float
    map_50: float
    map_75: float
    map_small: float
    map_medium: float
    map_large: float
    mar_1: float
    mar_10: float
    mar_100: float
    mar_small: float
    mar_medium: float
    mar_large: float
    rows: tuple[DetectionRow, ...]
    all_labels: DetectionRow
    threshold: float
    images: int
    confusion: NDArray[np.int64] = field(compare=False, repr=False)
    curves: tuple[NDArray[np.float64], ...] = field(compare=False, repr=False)
    outcomes: tuple[Outcome, ...] = field(compare=False, repr=False)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(row.label for row in self.rows)

    @property
    def confusion_labels(self) -> tuple[str, ...]:
        return (*self.labels, BACKGROUND)

    @cached_property
    def kinds(self) -> dict[str, int]:
        """How many boxes of each kind there are: right, confused, duplicate, misplaced, invented, missed, ignored."""
        kinds = [one.kind for one in self.outcomes]
        return {kind: kinds.count(kind) for kind in _KINDS}

    def scores(self) -> dict[str, float]:
        """The twelve figures alone."""
        return {name: getattr(self, name) for name in _FIGURES}

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.scores(),
            "threshold": self.threshold,
            "images": self.images,
            "all": self.all_labels.to_dict(),
            "labels": {row.label: row.to_dict() for row in self.rows},
            "mistakes": self.kinds,
            "confusion": {"labels": list(self.confusion_labels), "matrix": self.confusion.tolist()},
        }

    def to_text(self) -> str:
        """A table by label with the whole below; precision, recall and F1 at the threshold named under it."""
        width = max([*(display_width(shown(row.label)) for row in self.rows), len("all labels")])
        heads = ("AP", "AP50", "AP75", "AR", "precision", "recall", "F1", "objects")
        lines = [" " * width + "  " + " ".join(f"{h:>9}" for h in heads), ""]
        lines += [_text_row(row, width) for row in self.rows]
        lines += ["", _text_row(self.all_labels, width), ""]
        sizes = ", ".join(f"{n} {_shown(getattr(self, f'map_{n}'))}" for n in ("small", "medium", "large"))
        lines.append(f"AP by size: {sizes}. Precision, recall and F1: overlap 0.5, score from {self.threshold:.3f}.")
        return "\n".join(lines) + "\n"


_KINDS = ("right", "confused", "duplicate", "misplaced", "invented", "missed", "ignored")
_FIGURES = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large",
            "mar_1", "mar_10", "mar_100", "mar_small", "mar_medium", "mar_large")  # fmt: skip


def detection_report(
    gold: Sequence[Sequence[Mapping[str, Any]]],
    predicted: Sequence[Sequence[Mapping[str, Any]]],
    *,
    labels: Sequence[str] | None = None,
    threshold: float | None = None,
) -> DetectionReport:
    """Scores of predicted boxes, one sequence of objects per image on both sides.

    gold: {"box": [left, top, right, bottom], "label", "crowd"?, "area"?}; predicted: {"box", "label", "score"}. All
    predicted boxes should be given, those of low score too: the report chooses the threshold itself.
    labels: chooses and orders the rows; left out, every label of ``gold`` and ``predicted``, sorted.

    Raises:
        InputError: the two differ in length or are empty; an object lacks a part; a label outside ``labels``.
    """
    if len(gold) != len(predicted) or not len(gold):
        raise InputError(f"{len(gold)} images with true boxes but {len(predicted)} with predicted ones: give as many.")
    occurring = {item["label"] for side in (gold, predicted) for objects in side for item in objects}
    names = list(dict.fromkeys(labels)) if labels is not None else sorted_labels(occurring)
    if unknown := sorted_labels(occurring - set(names)):
        raise InputError(f"the label {unknown[0]!r} is not among {names!r:.200}.")
    index = {name: i for i, name in enumerate(names)}
    gold_boxes = [as_objects(objects, index, row=i) for i, objects in enumerate(gold)]
    predicted_boxes = [as_objects(objects, index, row=i, scored=True) for i, objects in enumerate(predicted)]
    pairs = list(zip(gold_boxes, predicted_boxes, strict=True))
    pool = BoxPool.of([match_image(g, p) for g, p in pairs], len(names))
    cut = pool.best_threshold() if threshold is None else threshold
    results = [o for i, (g, p) in enumerate(pairs) for o in outcomes(i, g, p, threshold=cut)]
    confusion = confusion_counts(gold_boxes, predicted_boxes, results, len(names))
    return _report(pool, [str(n) for n in names], cut, tuple(results), confusion)


def _report(
    pool: BoxPool, names: Sequence[str], cut: float, results: tuple[Outcome, ...], confusion: NDArray[np.int64]
) -> DetectionReport:
    areas, classes = list(AREAS), len(names)
    precision = np.full((len(areas), classes, len(IOU_THRESHOLDS), len(RECALL_POINTS)), np.nan)
    recall = np.full((len(areas), len(_FEW), classes, len(IOU_THRESHOLDS)), np.nan)
    for c in range(classes):
        own = pool.labels == c
        for a in range(len(areas)):
            if not pool.to_find[a, c]:
                continue
            right, wrong = pool.counts(own, a)
            precision[a, c] = average_precision(right, wrong, pool.to_find[a, c])
            for m, few in enumerate(_FEW):
                kept = right if few == _FEW[-1] else pool.counts(own & (pool.rank < few), a)[0]
                recall[a, m, c] = (kept[:, -1] if kept.shape[1] else 0.0) / pool.to_find[a, c]
    figures = {f"map_{n}": _mean(precision[i]) for i, n in enumerate(areas)} | {
        f"mar_{n}": _mean(recall[i, -1]) for i, n in enumerate(areas)
    }
    figures["map"], figures["map_50"] = figures.pop("map_all"), _mean(precision[0, :, HALF])
    figures["map_75"] = _mean(precision[0, :, _THREE_QUARTERS])
    figures |= {f"mar_{few}": _mean(recall[0, m]) for m, few in enumerate(_FEW)}
    del figures["mar_all"]
    rows = [_row(name, precision[0, c : c + 1], recall[0, -1, c], confusion, [c]) for c, name in enumerate(names)]
    whole = _row("all labels", precision[0], recall[0, -1], confusion, list(range(classes)))
    return DetectionReport(
        **figures, rows=tuple(rows), all_labels=whole, threshold=cut, images=pool.images, confusion=confusion,
        curves=tuple(precision[0]), outcomes=results,
    )  # fmt: skip


def _row(
    name: str, precision: NDArray[np.float64], recall: NDArray[np.float64], confusion: NDArray[np.int64], own: list[int]
) -> DetectionRow:
    """precision (c, T, 101) and recall (..., T) of the labels ``own``."""
    hits, predicted, support = confusion[own, own].sum(), confusion[:, own].sum(), confusion[own].sum()
    p, r, f1 = safe_ratio([hits, hits, 2 * hits], [predicted, support, predicted + support])
    ap, half, three = (_mean(part) for part in (precision, precision[:, HALF], precision[:, _THREE_QUARTERS]))
    return DetectionRow(name, ap, half, three, _mean(recall), float(p), float(r), float(f1), int(support))


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _shown(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


def _text_row(row: DetectionRow, width: int) -> str:
    values = (row.ap, row.ap_50, row.ap_75, row.ar, row.precision, row.recall, row.f1)
    numbers = " ".join(f"{_shown(v):>9}" for v in values)
    label = shown(row.label)
    return " " * (width - display_width(label)) + f"{label}  {numbers} {row.support:>9}"
