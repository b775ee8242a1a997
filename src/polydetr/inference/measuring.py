"""Labeled rows measured by a trained model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from polydetr.core.files import file_names
from polydetr.core.predictions import Evaluation
from polydetr.core.records import ReadReport, Record
from polydetr.engine.engine import Engine
from polydetr.engine.intervals import with_intervals
from polydetr.engine.measure import (
    evaluate_results,
    evaluation_warnings,
    label_warnings,
    unmeasured_warnings,
    with_coverage,
)
from polydetr.engine.mistakes import OnMistake, with_mistakes


def evaluated(
    engine: Engine,
    records: Iterable[Record],
    report: ReadReport,
    *,
    skip: bool,
    told: OnMistake = lambda target, result, mistake: None,
) -> tuple[dict[str, Evaluation], list[str]]:
    """The evaluations by target, and a line for all that was not measured or is to be doubted. skip: rows that cannot
    be read are rejected into ``report``. told: of every mistake.

    Raises:
        RowError: a row cannot be read, unless ``skip``.
    """
    results = []
    for result in engine.run(records, with_targets=True, on_error="return" if skip else "raise"):
        if result.error is None:
            results.append(result)
        else:
            report.reject(result.error.location or result.record.location, result.error.message)
    evaluations = with_coverage(engine, results, evaluate_results(engine, results))
    evaluations = with_intervals(engine.tasks, with_mistakes(engine, results, evaluations, told=told))
    lines = unmeasured_warnings(engine.tasks, evaluations, where="these rows")
    if report.rejected:
        lines.append(f"{len(report.rejected)} of the rows were left out (first: {report.rejected[0]})")
    for target, evaluation in evaluations.items():
        lines += label_warnings(target, results, where="these rows")
        lines += evaluation_warnings(engine.tasks[target], evaluation, where="these rows")
    return evaluations, lines


def report_name(rows: Any) -> str:
    """How the names of the files about these rows begin: as the file of rows is called."""
    stem = Path(rows).stem if isinstance(rows, str | Path) and str(rows) != "-" else ""
    return file_names([stem])[stem] or "rows"
