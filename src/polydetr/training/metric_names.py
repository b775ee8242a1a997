"""Which metrics the targets have, by which weights and settings may be chosen (``tasks.NAME.metric``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from polydetr.engine.engine import Engine
from polydetr.errors import ConfigError, did_you_mean
from polydetr.tasks.base import Task
from polydetr.training.encode import MeasuredRows, measure

_MOST = 200
"""Rows that show which metrics there are: some need rows of several kinds."""


def metric_names(engine: Engine, rows: MeasuredRows) -> dict[str, list[str]]:
    """Target → its metrics, as some of the rows have them; the model need not be trained."""
    step = max(1, len(rows.documents) // _MOST)
    _, evaluations = measure(engine, MeasuredRows(rows.documents[::step], rows.positives))
    return {target: list(evaluation.metrics) for target, evaluation in evaluations.items()}


def check_metrics(engine: Engine, rows: MeasuredRows) -> None:
    """Whether the metrics that the configuration names are there.

    Raises:
        ConfigError: one is not, with the nearest name.
    """
    named = {target: task for target, task in engine.tasks.items() if task.options.metric}
    if named:
        check_named(named, metric_names(engine, rows))


def check_named(tasks: Mapping[str, Task], names: Mapping[str, Iterable[str]]) -> None:
    """The same, for these tasks with a metric named and the names that there are. Raises ConfigError."""
    for target, task in tasks.items():
        wanted, known = str(task.options.metric), list(names.get(target, ()))
        if wanted not in known:
            raise ConfigError(
                f"tasks.{target}.metric = {wanted!r}: the target has no such metric.", hint=did_you_mean(wanted, known)
            )
