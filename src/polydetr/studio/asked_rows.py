"""Many rows asked of a model for a page: in parts, as fast as it answers, and told how far it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from polydetr.core.reading import ExpectedColumns
from polydetr.core.records import ReadReport
from polydetr.data.readers import read_records
from polydetr.errors import DataFileError
from polydetr.serving.asking import model_named, replies_patiently
from polydetr.serving.contract import Ask, Fleet, Reply
from polydetr.serving.rows import Columns, items_of

MOST_ROWS = 2_000
"""Of a file that is dropped here; a batch takes all."""
_PART = 64
_PATIENCE_S = 120.0


async def answered(
    fleet: Fleet,
    name: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    timeout_s: float,
    told: Callable[[int], None] = lambda done: None,
) -> list[Reply]:
    """One reply per row, in order. told: how many are done. Raises what ``serving.asking.replies_patiently`` raises."""
    columns = Columns.of(model_named(fleet, name))
    ask, replies = Ask(strictness="lenient"), []
    for start in range(0, len(rows), _PART):
        items = items_of(rows[start : start + _PART], columns)
        replies += await replies_patiently(
            fleet, name, items, ask, columns=columns, timeout_s=timeout_s, first=start + 1, patience_s=_PATIENCE_S
        )
        told(len(replies))
    return replies


def read_file(path: Path, targets: Sequence[str], inputs: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """The first rows of a file, with their labels where it has them, and what was wrong with it, in sentences.

    Raises:
        DataFileError, SchemaError: it cannot be read, or has no row.
    """
    report = ReadReport()
    expected = ExpectedColumns(tuple(inputs), tuple(targets))
    rows: list[dict[str, Any]] = []
    for record in read_records(path, report=report, expected=expected, on_error="skip"):
        rows.append(dict(record.row))
        if len(rows) == MOST_ROWS:
            break
    if not rows:
        raise DataFileError("the file has no readable row.", hint=" ".join(report.lines())[:500] or None)
    return rows, [line[:300] for line in report.lines()][:5]
