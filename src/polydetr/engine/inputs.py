"""The rows to predict or to measure on: from whatever the user gives to records with the columns that a model reads."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from polydetr.core.reading import ExpectedColumns, ReadOptions, option
from polydetr.core.records import ReadReport, Record
from polydetr.data.readers import read_records
from polydetr.data.readers.header import header_explained
from polydetr.data.readers.lists import with_lists
from polydetr.data.readers.source import existing
from polydetr.data.readers.tables import frame_kind
from polydetr.engine.encode import Strictness
from polydetr.errors import DataFileError, Location, SchemaError, listed, nearest, quoted
from polydetr.values.lists import ListColumn


class ReadingWarning(UserWarning):
    """Something in the rows was left out or repaired when they were read."""


def asked_records(
    rows: Any,
    fields: Sequence[str],
    *,
    reading: ReadOptions = ReadOptions(),
    expected: ExpectedColumns | None = None,
    report: ReadReport | None = None,
    strictness: Strictness = "normal",
    lists: Mapping[str, ListColumn] = MappingProxyType({}),
    labels: bool = False,
) -> Iterator[Record]:
    """What ``Predictor.predict`` takes, as records with the columns ``fields``; see ``read_records`` and
    ``with_columns``. At their end, a ``ReadingWarning`` for each kind of thing that reading left out or repaired.

    lists: the columns that hold lists (``Schema.lists``). labels: whether rows are measured; without them nothing that
    is wrong with a label is an error.
    """
    report = report if report is not None else ReadReport()
    rows = _each(rows, lambda row: _as_row(row, fields))
    expected = expected or ExpectedColumns(tuple(fields))
    records = read_records(rows, reading=reading, expected=expected, report=report, labels=labels)
    if not labels:
        lists = {name: column for name, column in lists.items() if name in fields}
    records = with_lists(records, lists, report=report, skip=reading.on_error == "skip")
    return _with_notes(with_columns(records, fields, strictness=strictness, report=report), report)


def _with_notes(records: Iterator[Record], report: ReadReport) -> Iterator[Record]:
    yield from records
    for line in report.notes():
        warnings.warn(line, ReadingWarning, stacklevel=2)


def target_records(rows: Any, target: str, *, reading: ReadOptions = ReadOptions()) -> Iterator[Record]:
    """Rows with the column ``target``; bare values stand for such rows."""
    rows = _each(rows, lambda row: row if isinstance(row, Mapping) and target in row else {target: row})
    report = ReadReport()
    records = read_records(rows, reading=reading, report=report)
    return with_columns(records, [target], strictness="normal", report=report)


def _each(rows: Any, as_row: Callable[[Any], Any]) -> Any:
    """Rows from memory, each through ``as_row``; one row or image is a list of one; files and data frames stay."""
    if isinstance(rows, (str, Path)):
        _check_is_file(rows)
    elif isinstance(rows, Mapping) or _is_image(rows):
        return [as_row(rows)]
    elif isinstance(rows, Iterable) and not frame_kind(rows):
        return (as_row(row) for row in rows)
    return rows


def with_columns(
    records: Iterable[Record], fields: Sequence[str], *, strictness: Strictness, report: ReadReport
) -> Iterator[Record]:
    """The records, after checking that the first has the columns: a wrong file is one error, not one per row.

    When lenient, a column that is not there is missing in every row, as long as one of them is there.

    Raises:
        SchemaError: a column that the model reads is not in the first row.
    """
    first = True
    for record in records:
        missing = [name for name in fields if name not in record.row] if first else []
        if missing and (strictness != "lenient" or len(missing) == len(fields)):
            file = record.location.file
            remedy = "Add the column, or take it as missing: strictness='lenient' (predict --lenient)."
            if record.location.line == 2:  # below what was taken for a header
                remedy += f" If the first line is a row as well, say {option('header', False)}."
            with header_explained(report):
                raise no_column(missing[0], record.row, "which the model reads", file=file, hint=remedy)
        first = False
        yield record


def no_column(
    name: str, columns: Iterable[str], what: str, *, file: str | None = None, hint: str | None = None
) -> SchemaError:
    """A column that should be among ``columns``: the nearest of these, or else the ``hint``, is the remedy."""
    known = list(columns)
    message = f"there is no column {quoted(name)}, {what}; the columns are {listed(known)}."
    return SchemaError(message, location=Location(file=file), hint=nearest(name, known) or hint)


def with_targets(records: Iterable[Record], targets: Iterable[str]) -> Iterator[Record]:
    """The records; at their end, one of the targets at least must have been a column of some row.

    Raises:
        SchemaError: no target is a column of any row.
    """
    wanted = list(targets)
    missing, record = set(wanted), None
    for record in records:
        missing -= record.row.keys()
        yield record
    if record is not None and len(missing) == len(wanted):
        where = record.location.file
        remedy = "Rows without labels are answered by predict."
        raise no_column(wanted[0], record.row, "the target to measure against", file=where, hint=remedy)


def _as_row(row: Any, fields: Sequence[str]) -> Any:
    """A bare value (a string, an image) is a row where the model reads one column."""
    if isinstance(row, (Mapping, Record)):
        return row
    if len(fields) == 1:
        return {fields[0]: row}
    raise SchemaError(
        f"a row is {quoted(row, 60)}, but the model reads {len(fields)} columns: {listed(fields)}.",
        hint="Give a mapping with these names.",
    )


def _is_image(value: Any) -> bool:
    """An array of one image, or one of Pillow's; an array of several is a list of them."""
    if frame_kind(value):
        return False
    shape = getattr(value, "__array_interface__", {}).get("shape", ())
    return len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))


def _check_is_file(source: str | Path) -> None:
    if str(source) == "-":
        return
    try:
        existing(source)
    except DataFileError as error:
        hint = error.hint
        if not Path(source).suffix or " " in str(source):
            hint = f"{hint} To answer a text itself, put it into a list: predict([text])."
        raise DataFileError(error.message, location=error.location, hint=hint) from None
