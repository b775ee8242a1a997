"""What a run begins with before its first step: the additive model of a table, heads that are a regression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from polydetr.core.records import Record
from polydetr.model.build import Assembly
from polydetr.training.budget import Budget
from polydetr.training.encode import EncodedRows
from polydetr.training.head_start import heads_to_start, start_heads
from polydetr.training.run import Run
from polydetr.training.start import SAMPLE, cells_in_time, start_from_tables


def begin(run: Run, assembly: Assembly, rows: EncodedRows, whole: Sequence[Record], *, resume: bool) -> bool:
    """Fits what can be fitted at once; whether there was anything, which there is not in a run that is resumed. whole:
    the training rows before a plan made them fewer.
    """
    seed, display = run.config.seed, run.display
    started = False
    if run.devices.is_first and not resume:
        seconds, cells = _seconds(run.budget), []
        if seconds is not None and assembly.model.additive and len(rows.train) < min(len(whole), SAMPLE):
            cells = cells_in_time(assembly, whole, seconds=seconds, seed=seed)
        tables = start_from_tables(assembly, rows.train, seed=seed, most=_most(run), seconds=seconds, cells=cells)
        started = bool(tables)
        if tables:
            display.note(f"begins with an additive model of the table, fitted at once ({_strengths(tables)})")
    if run.config.training.head_start and heads_to_start(assembly) and not resume:
        started |= run.devices.in_first(
            lambda: start_heads(
                assembly, rows.train, seed=seed, notify=display.note, most=_most(run), quick=run.budget is not None
            )
        )
    return started


def _most(run: Run) -> int | None:
    """Rows that backbones may read for it: a tenth of a time limit; None without one, and where their features have
    been computed.
    """
    budget = run.budget
    if budget is None or not budget.pace or run.config.training.freeze_backbones:
        return None
    return max(50, int(0.1 * budget.limit / budget.pace))


def _seconds(budget: Budget | None) -> float | None:
    """For reading cells, and for fits after which they do not go on to try other ways; None without a limit."""
    return None if budget is None else min(0.1 * budget.limit, max(0.05 * budget.limit, 0.3 * budget.left()))


def _strengths(started: Mapping[str, float]) -> str:
    """What was fitted, for a message."""
    return ", ".join(f"{target!r}: ridge penalty {strength:g}" for target, strength in started.items())
