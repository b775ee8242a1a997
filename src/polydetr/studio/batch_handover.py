"""Rows of a batch handed to the page where they are corrected: one of them, or the doubtful ones."""

from __future__ import annotations

from urllib.parse import quote

from polydetr.errors import InputError, RowError
from polydetr.reports.confidence import FAIRLY
from polydetr.serving.asking import model_named
from polydetr.serving.jobs import Job
from polydetr.serving.refusal import Refused
from polydetr.serving.rows import Columns
from polydetr.studio.batch_rows import doubt
from polydetr.studio.handed_rows import MOST_ROWS, Handed, RowSet
from polydetr.studio.pages import Studio


def hand_over(studio: Studio, job: Job, person: str, number: int) -> str:
    """The address where this row is corrected. Blocks.

    Raises:
        Refused: there is no such row. RowError: it cannot be read, so that there is nothing to correct.
    """
    info = model_named(studio.fleet, job.model)
    found = job.answered.read(number, 1) if job.answered is not None else []
    if not found:
        raise Refused(404, "there is no such row.", reason="unknown")
    item = found[0].item(Columns.of(info))
    if isinstance(item, RowError):
        raise item
    version = str(job.facts.get("version", info.version))
    return _address(studio, job, "row", studio.handover.put(Handed(job.model, version, item, found[0].reply, person)))


def hand_over_doubtful(studio: Studio, job: Job, person: str) -> str:
    """The address where the doubtful rows are corrected one after the other, the most doubtful first. Blocks.

    Raises:
        InputError: none is doubtful.
    """
    columns = Columns.of(model_named(studio.fleet, job.model))
    numbers = doubtful(job, columns.targets)
    rows = [row for number in numbers if job.answered is not None for row in job.answered.read(number, 1)]
    items = [item for row in rows if not isinstance(item := row.item(columns), RowError)]
    if not items:
        raise InputError("no answer is doubtful.", hint="Sort by confidence, open a row and correct it.")
    return _address(studio, job, "rows", studio.sets.put(RowSet(job.model, items, job.name, person)))


def doubtful(job: Job, targets: tuple[str, ...]) -> list[int]:
    """The numbers of the rows whose answers the pages call unsure, or that were withheld: the most doubtful first."""
    found = []
    for number, row in enumerate(job.answered.all() if job.answered is not None else (), start=1):
        sure = doubt(row.reply, targets)
        if sure is not None and (sure < FAIRLY or row.reply.get("abstained")):
            found.append((sure, number))
    return [number for _, number in sorted(found)[:MOST_ROWS]]


def _address(studio: Studio, job: Job, name: str, id: str) -> str:
    return f"{studio.base}/{quote(job.model, safe='')}/correct?{name}={quote(id, safe='')}"
