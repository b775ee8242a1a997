"""Labeled rows measured by a trained model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from polydetr.core.files import file_names
from polydetr.core.predictions import Evaluation, RowResult
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
from polydetr.inference.writing import WritingWarning


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
    results = list(good_results(engine, records, report, skip=skip, with_targets=True))
    evaluations = with_coverage(engine, results, evaluate_results(engine, results))
    evaluations = with_intervals(engine.tasks, with_mistakes(engine, results, evaluations, told=told))
    lines = unmeasured_warnings(engine.tasks, evaluations, where="these rows")
    lines += left_out(report)
    for target, evaluation in evaluations.items():
        lines += label_warnings(target, results, where="these rows")
        lines += evaluation_warnings(engine.tasks[target], evaluation, where="these rows")
    return evaluations, lines


def good_results(
    engine: Engine, records: Iterable[Record], report: ReadReport, *, skip: bool, with_targets: bool = False
) -> Iterator[RowResult]:
    """``Engine.run`` without the rows that cannot be read, which are rejected into ``report``.

    Raises:
        RowError: a row cannot be read, unless ``skip``.
    """
    for result in engine.run(records, with_targets=with_targets, on_error="return" if skip else "raise"):
        if result.error is None:
            yield result
        else:
            report.reject(result.error.location or result.record.location, result.error.message)


def left_out(report: ReadReport) -> list[str]:
    """A line where rows were rejected."""
    found = report.rejected
    return [f"{len(found)} of the rows were left out (first: {found[0]})"] if found else []


def write_reports(
    folder: Path, evaluations: Mapping[str, Evaluation], rows: Any, *, image_of: Callable[[Record], Any]
) -> list[Path]:
    """The files about these rows in ``folder``, called as the file of rows is; those of other rows are not replaced.

    Raises:
        OSError, SaveError: a file cannot be written.
    """
    from polydetr.reports.evaluation import free_name, write_evaluations

    file = Path(rows) if isinstance(rows, str | Path) and str(rows) != "-" else None
    stem, source = ("", "rows from memory") if file is None else (file.stem, str(file.resolve()))
    wanted = file_names([stem])[stem] or "rows"
    name = free_name(folder, wanted, evaluations, source=source)
    if name != wanted:
        others = f"{str(folder)!r} has files of other rows that are called {wanted!r}"
        warnings.warn(f"{others}: these reports are called {name!r}", WritingWarning, stacklevel=3)
    return write_evaluations(folder, evaluations, name=name, image_of=image_of, source=source)
