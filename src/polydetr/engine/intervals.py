"""How far a score on few rows may be from the one on many: the 95 % interval of an accuracy (Wilson 1927)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from polydetr.core.predictions import Evaluation
from polydetr.metrics.calibration import wilson_interval
from polydetr.metrics.figures import ClassFigures
from polydetr.tasks.base import Task

FEW_ANSWERS = 200
"""Answers below which a score is never shown without its interval: at 0.9 it is 0.85 to 0.94 wide with so many."""


def with_intervals(
    tasks: Mapping[str, Task], evaluations: Mapping[str, Evaluation], *, always: bool = False
) -> dict[str, Evaluation]:
    """With the interval of the accuracy, as metrics and as a table, of the targets that classify whole rows; but for
    ``always`` where fewer than ``FEW_ANSWERS`` were measured.
    """
    return {
        target: _with_interval(evaluation, always=always) if not tasks[target].per_token else evaluation
        for target, evaluation in evaluations.items()
    }


def _with_interval(evaluation: Evaluation, *, always: bool) -> Evaluation:
    if not isinstance(evaluation.figures, ClassFigures) or "accuracy" not in evaluation.metrics:
        return evaluation
    rows, accuracy = len(evaluation.figures.correct), float(evaluation.metrics["accuracy"])
    if not rows or (rows >= FEW_ANSWERS and not always):
        return evaluation
    low, high = wilson_interval(accuracy, rows)
    table = f"accuracy {accuracy:.3f}, 95 % interval {low:.3f} to {high:.3f}, of {rows} rows"
    metrics = {**evaluation.metrics, "accuracy_low": low, "accuracy_high": high}
    return replace(evaluation, metrics=metrics, tables={**evaluation.tables, "interval": table})
