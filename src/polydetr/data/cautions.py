"""What a careful colleague would say of the rows before a model is trained on them; from counts alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from polydetr.errors import quoted
from polydetr.metrics.calibration import wilson_interval

FEW_TRAINING_ROWS = 20
"""Fewer rows show a model little of what it will meet."""
FEW_MEASURED_ROWS = 30
"""Of 30 right answers to 30 rows follows no more than that at least 0.89 of all are right (95 %)."""
FEW_PER_CLASS = 5
_IDS = 0.5
_ROWS_FOR_IDS = 8
_SPLITS = {"valid": "validation"}


def cautions_of_rows(
    rows: Mapping[str, int], tasks: Mapping[str, str], classes: Mapping[str, Mapping[str, Mapping[str, int]]]
) -> list[str]:
    """All of them, one line each, none twice.

    Args:
        rows: split → how many, the training rows first. tasks: target → task.
        classes: target → split → class → rows, of the targets that have classes.
    """
    lines = few_rows(rows, tasks.values())
    for target, by_split in classes.items():
        (_, train), *others = by_split.items()
        if ids := ids_as_labels(target, train):
            lines += ids
            continue
        for split, counts in others:
            if rows[split] >= FEW_MEASURED_ROWS:  # with fewer in all it has been said
                lines += few_per_class(target, train, counts, split)
    return lines


def few_rows(rows: Mapping[str, int], tasks: Collection[str] = ()) -> list[str]:
    """Too few rows to learn from, or to measure on, with the interval that it implies. rows: split → how many, the
    training rows first. tasks: those of the targets; a quantity is not right or wrong.
    """
    (_, train), *measured = rows.items()
    lines = []
    if 0 < train < FEW_TRAINING_ROWS:
        lines.append(f"{_count(train, 'training')} can teach little: expect a model that guesses, and label more")
    for split, count in measured:
        if not 0 < count < FEW_MEASURED_ROWS:
            continue
        if set(tasks) == {"regression"}:
            implied = "other rows would give quite another one"
        else:
            low, _ = wilson_interval(1.0, count)
            implied = f"where all answers are right, it says that of others {low:.0%} or more are (95 % interval)"
        lines.append(f"a score on {_count(count, _SPLITS.get(split, split))} is coarse: {implied}")
    return lines


def ids_as_labels(target: str, counts: Mapping[str, int]) -> list[str]:
    """Nearly as many classes as rows that have one. counts: class → rows."""
    rows = sum(counts.values())
    if rows < _ROWS_FOR_IDS or len(counts) <= _IDS * rows:
        return []
    return [
        f"{quoted(target)} has {len(counts):,} classes in {rows:,} rows: they look like ids or free text, of which "
        f"no row teaches anything about another (to find such values by search: {target}:embedding)"
    ]


def few_per_class(target: str, train: Mapping[str, int], measured: Mapping[str, int], split: str) -> list[str]:
    """Classes of the training rows of which a split has too few rows for a score of their own. train, measured: class →
    rows.
    """
    few = sorted((measured.get(label, 0), label) for label in train if measured.get(label, 0) < FEW_PER_CLASS)
    if not few or len(train) < 2 or not measured:
        return []
    examples = ", ".join(f"{quoted(label, 40)} {count}" for count, label in few[:3])
    return [
        f"of {len(train):,} classes of {quoted(target)}, {len(few):,} have fewer than {FEW_PER_CLASS} "
        f"{_SPLITS.get(split, split)} rows ({examples}{', ...' if len(few) > 3 else ''}): their own scores say little"
    ]


def _count(number: int, split: str) -> str:
    return f"{number} {split} row{'s' * (number != 1)}"
