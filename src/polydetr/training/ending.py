"""The end of a run under a time limit: what the steps leave for it, and how much is measured in that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from polydetr.modalities.base import Notify
from polydetr.model.build import Assembly
from polydetr.tasks.capabilities import Conforms, Judged, Tunes
from polydetr.training.budget import Budget
from polydetr.training.calibrate import MAX_ROWS
from polydetr.training.encode import EncodedRows, MeasuredRows
from polydetr.training.loop import LEAST_EVALUATED

REPORT_SECONDS = 2.5
"""Drawing and saving what a run leaves, on an idle machine."""
SAFETY = 1.25
"""The measuring is given so many times what the paces say it takes."""


def passes(assembly: Assembly) -> float:
    """How often validation rows are answered after the training (``calibrate``, and the proof of a precision)."""
    tasks = assembly.engine.tasks.values()
    tunes = any(isinstance(task, Tunes) and task.tunes_answers for task in tasks)
    conforms = any(isinstance(task, Conforms) or (isinstance(task, Judged) and task.rescales) for task in tasks)
    return 2.0 + tunes + conforms


def after_training(budget: Budget, assembly: Assembly, rows: EncodedRows, *, proves: bool) -> Callable[[float], float]:
    """Seconds that the loop leaves for all that comes after it, by measured seconds per document that is answered. At
    most two fifths of the limit: later fewer rows are measured (``fitting``).
    """
    each = _answered(assembly, rows, proves=proves)

    def reserve(pace: float) -> float:
        budget.pace = pace or budget.pace
        return min(SAFETY * budget.pace * each, 0.4 * budget.limit) + report_seconds(budget)

    return reserve


def report_seconds(budget: Budget) -> float:
    """For drawing and saving; of a short limit no more than a third, which it outlasts by seconds then."""
    return min(REPORT_SECONDS * budget.slowness(), budget.limit / 3)


def _answered(assembly: Assembly, rows: EncodedRows, *, proves: bool) -> float:
    """Documents that are answered after the training, counted as often as they are."""
    valid = len(rows.valid.documents)
    test = len(rows.test.documents) if rows.test is not None else 0
    return valid * passes(assembly) + test + (2 * min(valid, MAX_ROWS) if proves else 0)


def fitting(
    budget: Budget, assembly: Assembly, rows: EncodedRows, *, proves: bool, notify: Notify
) -> tuple[EncodedRows, bool]:
    """The rows that are still measured in what is left, by the pace of the evaluations so far, and whether they prove
    another precision.
    """
    left = max(budget.left() - report_seconds(budget), 0.05 * budget.limit)

    def share(proves: bool) -> float:
        return SAFETY * budget.pace * _answered(assembly, rows, proves=proves) / left

    proves = proves and share(proves) <= 1
    if share(proves) <= 1:
        return rows, proves
    step = int(share(proves)) + 1
    step += 1 - step % 2  # odd: halves of the rows that choose and calibrate stay apart
    valid = _every(rows.valid, step)
    test = _every(rows.test, step) if rows.test is not None else None
    if valid is not rows.valid or test is not rows.test:
        counts = f"{len(valid.documents):,} of {len(rows.valid.documents):,} validation rows"
        if test is not None and rows.test is not None:
            counts += f" and {len(test.documents):,} of {len(rows.test.documents):,} test rows"
        notify(f"answering is slower than planned: {counts} are measured")
    return replace(rows, valid=valid, test=test), proves


def draws_reports(budget: Budget, *, notify: Notify) -> bool:
    """Whether there is time for the pictures of the report, with most of what a limit may be outlasted by."""
    tolerance = 0.8 * max(0.1 * budget.limit, 10.0)
    if budget.left() + tolerance >= REPORT_SECONDS * budget.slowness():
        return True
    notify("the time limit is over: the pictures of the report are not drawn; the model and its figures are saved")
    return False


def _every(rows: MeasuredRows, step: int) -> MeasuredRows:
    """Every so many, but ``LEAST_EVALUATED`` where there are as many."""
    most = max(1, len(rows.documents) // LEAST_EVALUATED)
    step = min(step, most - (1 - most % 2))
    return rows.every(step) if step > 1 else rows


def tested_in_time(budget: Budget, test: MeasuredRows, *, notify: Notify) -> MeasuredRows:
    """The test rows that are still answered in what is left, by the pace so far."""
    left = max(budget.left() - report_seconds(budget), 0.05 * budget.limit)
    step = int(SAFETY * budget.pace * len(test.documents) / left) + 1
    fewer = _every(test, step)
    if fewer is not test:
        notify(f"time limit: {len(fewer.documents):,} of {len(test.documents):,} test rows are measured")
    return fewer
