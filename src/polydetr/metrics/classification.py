"""Scores of single-label and multi-label classification.

Everything is counted once, in a confusion matrix; every score is read from it. Definitions follow scikit-learn (a ratio
whose denominator is zero counts as 0), which the tests hold these functions to.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polydetr.errors import InputError, shown

WHOLE_MATRIX = 200
"""Up to so many classes, a confusion matrix is written with all its cells."""


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One line of a report: precision = tp / (tp + fp), recall = tp / (tp + fn), f1 = 2 tp / (2 tp + fp + fn), support
    = tp + fn.
    """

    label: str
    precision: float
    recall: float
    f1: float
    support: int

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__ if name != "label"}


@dataclass(frozen=True)
class ClassReport:
    """Scores by label with their averages, and the counts behind them.

    accuracy: the share of exactly right answers; for several labels at once, the share of rows whose whole set is
    right.
    confusion: (C, C) counts, rows gold, columns predicted, in the order of ``confusion_labels``; None for multi-label
    reports.
    footer: which averages ``to_text`` prints, in order.
    """

    rows: tuple[ClassRow, ...]
    micro: ClassRow
    macro: ClassRow
    weighted: ClassRow
    accuracy: float
    total: int
    footer: tuple[str, ...] = ("accuracy", "macro avg", "weighted avg")
    confusion_labels: tuple[str, ...] = ()
    confusion: NDArray[np.int64] | None = field(default=None, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; the confusion matrix as nested lists, or, of more than ``WHOLE_MATRIX`` classes, as its
        cells (gold, predicted, count) that are not empty.
        """
        out: dict[str, Any] = {
            "accuracy": self.accuracy,
            "micro_f1": self.micro.f1,
            "macro_f1": self.macro.f1,
            "weighted_f1": self.weighted.f1,
            "total": self.total,
            "labels": {row.label: row.to_dict() for row in self.rows},
            "averages": {row.label: row.to_dict() for row in (self.micro, self.macro, self.weighted)},
        }
        if self.confusion is not None:
            out["confusion"] = {"labels": list(self.confusion_labels), **self._counts(self.confusion)}
        return out

    @staticmethod
    def _counts(matrix: NDArray[np.int64]) -> dict[str, Any]:
        """Of many classes nearly all cells are empty: 5,000 of them would be 25 million zeros."""
        if len(matrix) <= WHOLE_MATRIX:
            return {"matrix": matrix.tolist()}
        places = np.argwhere(matrix)
        return {"cells": np.column_stack([places, matrix[tuple(places.T)]]).tolist()}

    def to_text(self) -> str:
        """The layout of ``sklearn.metrics.classification_report`` with three digits, character for character; wide
        characters count two columns.
        """
        width = max([*(display_width(shown(row.label)) for row in self.rows), len("weighted avg")])
        lines = [" " * width + "  " + " ".join(f"{h:>9}" for h in ("precision", "recall", "f1-score", "support")), ""]
        lines += [_text_row(row, width) for row in self.rows]
        lines.append("")
        averages = {row.label: row for row in (self.micro, self.macro, self.weighted)}
        for name in self.footer:
            if name == "accuracy":
                lines.append(f"{name:>{width}}  {'':>9} {'':>9} {self.accuracy:>9.3f} {self.total:>9}")
            else:
                lines.append(_text_row(averages[name], width))
        return "\n".join(lines) + "\n"


def display_width(text: str) -> int:
    """Terminal columns that ``text`` takes: two for a wide (Chinese, Japanese, Korean) character, none for a combining
    mark.
    """
    wide = sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
    return wide - sum(unicodedata.combining(c) != 0 for c in text)


def _text_row(row: ClassRow, width: int) -> str:
    label = shown(row.label)
    name = " " * (width - display_width(label)) + label
    scores = " ".join(f"{value:>9.3f}" for value in (row.precision, row.recall, row.f1))
    return f"{name}  {scores} {row.support:>9}"


def classification_report(
    gold: Sequence[Hashable], predicted: Sequence[Hashable], labels: Sequence[Hashable] | None = None
) -> ClassReport:
    """The scikit-learn report. ``labels`` chooses and orders the rows; left out, every label that occurs, sorted.

    Where ``labels`` leaves out a label that occurs, the foot shows the micro average in place of the accuracy, as
    scikit-learn does.

    Raises:
        InputError: the two sequences differ in length or are empty.
    """
    _same_length(gold, predicted)
    occurring = {*gold, *predicted}
    rows = list(dict.fromkeys(labels)) if labels is not None else sorted_labels(occurring)
    order = [*rows, *sorted_labels(occurring - set(rows))]
    matrix = _confusion_matrix(gold, predicted, order)
    footer = ("accuracy" if len(order) == len(rows) else "micro avg", "macro avg", "weighted avg")
    return report_from_counts(
        [str(label) for label in rows],
        np.diag(matrix)[: len(rows)],
        matrix.sum(0)[: len(rows)],
        matrix.sum(1)[: len(rows)],
        accuracy=float(np.trace(matrix) / len(gold)),
        total=len(gold),
        footer=footer,
        confusion_labels=tuple(str(label) for label in order),
        confusion=matrix,
    )


def report_from_counts(
    labels: Sequence[str],
    hits: NDArray[Any],
    predicted: NDArray[Any],
    support: NDArray[Any],
    *,
    accuracy: float,
    total: int,
    footer: tuple[str, ...],
    confusion_labels: tuple[str, ...] = (),
    confusion: NDArray[np.int64] | None = None,
) -> ClassReport:
    """Every ratio of a report from three counts per label: true positives, predicted, gold; each (C,)."""
    precision, recall = safe_ratio(hits, predicted), safe_ratio(hits, support)
    f1 = safe_ratio(2 * hits, predicted + support)
    rows = tuple(
        ClassRow(label, float(p), float(r), float(f), int(s))
        for label, p, r, f, s in zip(labels, precision, recall, f1, support, strict=True)
    )
    all_hits, all_predicted, all_support = hits.sum(), predicted.sum(), support.sum()
    micro = safe_ratio([all_hits, all_hits, 2 * all_hits], [all_predicted, all_support, all_predicted + all_support])
    columns = np.stack([precision, recall, f1])
    macro = columns.mean(1) if len(rows) else np.zeros(3)
    weighted = safe_ratio(columns @ support, all_support)

    def average(name: str, values: NDArray[np.float64]) -> ClassRow:
        return ClassRow(name, float(values[0]), float(values[1]), float(values[2]), int(all_support))

    return ClassReport(
        rows,
        average("micro avg", micro),
        average("macro avg", macro),
        average("weighted avg", weighted),
        accuracy,
        total,
        footer,
        confusion_labels,
        confusion,
    )


def _confusion_matrix(
    gold: Sequence[Hashable], predicted: Sequence[Hashable], labels: Sequence[Hashable]
) -> NDArray[np.int64]:
    """(C, C) counts; row = gold, column = predicted. ``labels`` holds every label that occurs."""
    index = {label: i for i, label in enumerate(labels)}
    size = len(index)
    cells = np.fromiter((index[g] * size + index[p] for g, p in zip(gold, predicted, strict=True)), np.int64, len(gold))
    return np.bincount(cells, minlength=size * size).reshape(size, size)


def multilabel_report(
    gold: Sequence[Collection[str]], predicted: Sequence[Collection[str]], labels: Sequence[str]
) -> ClassReport:
    """Scores of several labels at once: by label, micro, macro, weighted; ``accuracy`` is the subset accuracy.

    gold and predicted hold one collection of labels per row; order and repetition inside it do not matter. Only
    ``labels`` are scored by label.
    """
    _same_length(gold, predicted)
    exact, hits, answered, support = 0, Counter[str](), Counter[str](), Counter[str]()
    for g, p in zip(map(set, gold), map(set, predicted), strict=True):
        exact += g == p
        hits.update(g & p)
        answered.update(p)
        support.update(g)
    arrays = [np.array([counts[label] for label in labels], np.int64) for counts in (hits, answered, support)]
    footer = ("micro avg", "macro avg", "weighted avg")
    return report_from_counts(labels, *arrays, accuracy=exact / len(gold), total=len(gold), footer=footer)


def safe_ratio(numerator: Any, denominator: Any) -> NDArray[np.float64]:
    """numerator / denominator with 0 where the denominator is 0."""
    top, bottom = np.broadcast_arrays(np.asarray(numerator, np.float64), np.asarray(denominator, np.float64))
    return np.divide(top, bottom, out=np.zeros(top.shape), where=bottom != 0)


def sorted_labels(labels: Collection[Any]) -> list[Any]:
    """In their own order where they have one, else by their text."""
    try:
        return sorted(labels)
    except TypeError:
        return sorted(labels, key=str)


def _same_length(gold: Sequence[Any], predicted: Sequence[Any]) -> None:
    if len(gold) != len(predicted):
        raise InputError(
            f"{len(gold)} gold rows but {len(predicted)} predicted: a metric needs one prediction for each row."
        )
    if len(gold) == 0:
        raise InputError("No rows to score: gold and predicted are empty; a metric needs at least one row.")
