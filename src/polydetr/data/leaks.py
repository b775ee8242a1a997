"""Input columns that give the target away: one column alone that predicts (almost) every answer is seldom known when a
prediction is asked for.

Each number, category or date column is judged alone, on rows it was not fitted to: for classes a small decision tree
(numbers and dates, with "missing" as a feature of its own: that there is a date of death decides a class) or the most
frequent class of each category; for numbers the rank correlation, or the mean of each category.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from polydetr.core.records import Row
from polydetr.errors import RowError
from polydetr.metrics.regression import mean_ranks
from polydetr.schema.spec import Schema
from polydetr.values.cells import decimal_marks, read_category, read_number
from polydetr.values.dates import day_order, read_date

MIN_ROWS = 30
MAX_ROWS = 5000
ACCURACY = 0.99
"""Share of the rows that one column must get right; it must also leave a tenth, at most, of the errors that always
answering with the most frequent class makes.
"""
CORRELATION = 0.995
"""Of ranks, either way; the same bar holds for the correlation of a category's means with the numbers."""
_FOLDS = 3


def find_leaks(rows: Sequence[Row], schema: Schema) -> list[str]:
    """A sentence for each input column that alone (nearly) determines a target; ``MAX_ROWS`` rows are looked at."""
    if len(rows) > MAX_ROWS:
        rows = [rows[i] for i in np.sort(np.random.default_rng(0).choice(len(rows), MAX_ROWS, replace=False))]
    messages = []
    for target in schema.targets:
        if target.task not in ("classification", "regression"):
            continue
        numeric = target.task == "regression"
        answers = _cells([_single(row.get(target.name)) for row in rows], "number" if numeric else "category")
        known = [i for i, answer in enumerate(answers) if answer is not None]
        if len(known) < MIN_ROWS:
            continue
        y = _numbered([answers[i] for i in known]) if not numeric else np.array([answers[i] for i in known])
        for field in schema.inputs:
            if field.name == target.name or field.modality not in _READERS:
                continue
            values = _cells([rows[i].get(field.name) for i in known], field.modality)
            judge = _of_numbers if numeric else _of_classes
            verdict = judge(values, y, is_category=field.modality == "category")
            if verdict:
                messages.append(
                    f"column {field.name!r} alone {verdict} of {target.name!r}: if it is not known before the answer "
                    "is, the scores will be too good to be true; leave it out of the inputs"
                )
    return messages


_READERS: dict[str, Callable[..., Any]] = {"number": read_number, "category": read_category, "date": read_date}


def _cells(values: Sequence[Any], kind: str) -> list[Any]:
    """A column as the table reads it; what it cannot read, which is reported elsewhere, counts as missing."""
    how: dict[str, bool] = {}
    if kind == "number":
        how["comma"] = decimal_marks(values).comma
    elif kind == "date":
        how["day_first"] = day_order(values).day_first
    read = functools.partial(_READERS[kind], column="", **how)
    return [_cell(value, read) for value in values]


def _cell(value: Any, read: Callable[[Any], Any]) -> Any:
    """A number or a category; None where it is missing or cannot be read. A moment becomes days, with fractions."""
    try:
        cell = read(value)
    except RowError:
        return None
    return cell.toordinal() + cell.hour / 24 if isinstance(cell, dt.datetime) else cell


def _single(value: Any) -> Any:
    """The value; None for several labels per row, which are not judged."""
    return None if isinstance(value, (list, tuple, dict)) else value


def _numbered(labels: Sequence[str]) -> np.ndarray:
    """The place of each label in the sorted list of them: as text, NumPy would make all as long as the longest."""
    place = {label: i for i, label in enumerate(sorted(set(labels)))}
    return np.array([place[label] for label in labels])


# -- classes ----------------------------------------------------------------------------------------------------------


def _of_classes(values: list[Any], labels: np.ndarray, *, is_category: bool) -> str:
    """What the column alone predicts, in words; "" where it predicts too little to be suspicious."""
    names, y, counts = np.unique(labels, return_inverse=True, return_counts=True)
    common = np.flatnonzero(counts[y] >= _FOLDS)  # a label must be met in every fold
    if len(common) < MIN_ROWS or len(np.unique(y[common])) < 2:
        return ""
    y, values = np.unique(y[common], return_inverse=True)[1], [values[i] for i in common]
    right = (_most_frequent if is_category else _tree)(values, y) == y
    accuracy, base = float(right.mean()), float(np.bincount(y).max() / len(y))
    if accuracy < ACCURACY or 1 - accuracy > 0.1 * (1 - base):
        return ""
    return f"predicts {'all' if accuracy == 1 else f'{accuracy:.1%}'} of the {len(y)} rows' classes (of {len(names)})"


def _tree(values: list[Any], y: np.ndarray) -> np.ndarray:
    """Each row's class by a small decision tree fitted to the other folds."""
    from sklearn.model_selection import PredefinedSplit, cross_val_predict
    from sklearn.tree import DecisionTreeClassifier

    missing = np.array([v is None for v in values])
    known = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
    # As parts of the range: a tree works in float32, in which numbers as large as ids and moments look alike.
    low, high = (np.nanmin(known), np.nanmax(known)) if not missing.all() else (0.0, 0.0)
    x = np.column_stack([np.nan_to_num((known - low) / ((high - low) or 1.0)), missing])
    tree = DecisionTreeClassifier(max_leaf_nodes=4 * len(np.unique(y)), random_state=0)
    return np.asarray(cross_val_predict(tree, x, y, cv=PredefinedSplit(_folds(y))))


def _most_frequent(values: list[Any], y: np.ndarray) -> np.ndarray:
    """Each row's class by the most frequent one of its category in the other folds (of all, for a new category)."""
    return _means_by_category(values, np.eye(y.max() + 1)[y], _folds(y)).argmax(1)


def _folds(y: np.ndarray) -> np.ndarray:
    """Each row's fold; a class is dealt out over all of them, shuffled: files are often sorted."""
    order = np.random.default_rng(0).permutation(len(y))
    folds = np.empty(len(y), dtype=int)
    folds[order[np.argsort(y[order], kind="stable")]] = np.arange(len(y)) % _FOLDS
    return folds


def _means_by_category(values: list[Any], y: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """y (N, C) → each row's mean of ``y`` over the other folds' rows of its category; over all of them, for a category
    that they do not have.
    """
    numbers = {value: i for i, value in enumerate(dict.fromkeys(values))}
    category = np.array([numbers[value] for value in values])
    means = np.empty(y.shape)
    for k in range(_FOLDS):
        others, here = folds != k, folds == k
        counts = np.bincount(category[others], minlength=len(numbers))[:, None]
        totals = np.zeros((len(numbers), y.shape[1]))
        np.add.at(totals, category[others], y[others])
        means[here] = np.where(counts > 0, totals / np.maximum(counts, 1), y[others].mean(0))[category[here]]
    return means


# -- numbers ----------------------------------------------------------------------------------------------------------


def _of_numbers(values: list[Any], y: np.ndarray, *, is_category: bool) -> str:
    """As ``_of_classes``, for a target of numbers ``y`` (N,)."""
    if is_category:
        x = _means_by_category(values, y[:, None], _folds(np.zeros(len(y))))[:, 0]
        sentence = "predicts, by the mean of each category, the value"
    else:
        kept = [i for i, v in enumerate(values) if v is not None]
        x, y = np.array([values[i] for i in kept], dtype=np.float64), y[kept]
        sentence = "has the order"
    if len(y) < MIN_ROWS or np.ptp(x) == 0 or np.ptp(y) == 0:
        return ""
    if not is_category:
        x, y = mean_ranks(x), mean_ranks(y)
    correlation = float(np.corrcoef(x, y)[0, 1])
    return f"{sentence} (correlation {correlation:.3f})" if abs(correlation) >= CORRELATION else ""
