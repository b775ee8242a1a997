"""The rows to predict or to measure on: from whatever the user gives to records with the columns that a model reads."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from polydetr.core.access import FileAccess
from polydetr.core.reading import ExpectedColumns, ReadOptions, option
from polydetr.core.records import ReadReport, Record, Rejection
from polydetr.data.readers import TEST_PARTS, TRAIN_PARTS, read_records
from polydetr.data.readers.header import header_explained
from polydetr.data.readers.lists import with_lists
from polydetr.data.readers.source import existing
from polydetr.data.readers.tables import column_kind, frame_kind
from polydetr.engine.encode import Strictness
from polydetr.errors import DataFileError, Location, SchemaError, listed, nearest, quoted
from polydetr.values.files import is_image_name
from polydetr.values.lists import ListColumn

LOOKED_AT = 10_000
"""Rows that are looked at for the columns that a model reads: rows of JSON may leave out a key that has no value."""
_OF_BOXES = frozenset({"image", "objects", "image_id"})
"""Columns of every row from a reader of boxes."""


class ReadingWarning(UserWarning):
    """Something in the rows was left out or repaired when they were read."""


def asked_records(
    rows: Any,
    fields: Sequence[str],
    *,
    single: Collection[str] = (),
    reading: ReadOptions = ReadOptions(),
    expected: ExpectedColumns | None = None,
    report: ReadReport | None = None,
    strictness: Strictness | None = None,
    also: str | Path | None = None,
    split: Sequence[str] = (*TEST_PARTS, *TRAIN_PARTS),
    image: str | None = None,
    lists: Mapping[str, ListColumn] = MappingProxyType({}),
    labels: bool = False,
    access: FileAccess | None = None,
) -> Iterator[Record]:
    """What ``Predictor.predict`` takes, as records with the columns ``fields``; see ``read_records`` and
    ``with_columns``. At their end, a ``ReadingWarning`` for each kind of thing that reading left out or repaired.

    lists: the columns that hold lists (``Schema.lists``). labels: whether rows are measured; without them nothing that
    is wrong with a label is an error. single: the fields that hold no lists, so that a mapping with lists of them is
    one of columns. image: the one column of images that is read, whose name stands for what readers of images call
    "image". split: of a data.yaml, where ``reading`` names none. access: what paths in the rows may reach, in place of
    what ``reading`` says.
    """
    report = report if report is not None else ReadReport()
    rows = _each(rows, lambda row: as_row(row, fields), lambda rows: _as_rows(rows, fields, single))
    are_images = isinstance(rows, str | Path) and (Path(rows).is_dir() or is_image_name(rows))
    expected = expected or ExpectedColumns(tuple(fields))
    records = read_records(
        rows, reading=reading, expected=expected, report=report, also=also, split=reading.split or split, labels=labels
    )
    if access is not None:
        records = (replace(record, access=access) for record in records)
    if image is not None:
        records = (_renamed(record, image, are_images=are_images) for record in records)
    if not labels:
        lists = {name: column for name, column in lists.items() if name in fields}
    records = with_lists(records, lists, report=report, skip=reading.on_error == "skip")
    return _with_notes(with_columns(records, fields, strictness=strictness, report=report), report)


def _renamed(record: Record, image: str, *, are_images: bool) -> Record:
    """The record with ``image`` as the name of its image, where a reader of images or of boxes named it."""
    if image in record.row or not (are_images or record.row.keys() >= _OF_BOXES):
        return record
    return replace(record, row={image if name == "image" else name: cell for name, cell in record.row.items()})


def _with_notes(records: Iterator[Record], report: ReadReport) -> Iterator[Record]:
    yield from records
    for line in report.notes():
        warnings.warn(line, ReadingWarning, stacklevel=2)


def target_records(
    rows: Any, target: str, *, reading: ReadOptions = ReadOptions(), report: ReadReport | None = None
) -> Iterator[Record]:
    """Rows with the column ``target``; bare values stand for such rows."""

    def as_row(row: Any) -> Any:
        return row if isinstance(row, Mapping) and target in map(str, row) else {target: row}

    report = report if report is not None else ReadReport()
    records = read_records(_each(rows, as_row, lambda row: [row]), reading=reading, report=report)
    return with_columns(records, [target], strictness=None, report=report)


def _each(rows: Any, as_row: Callable[[Any], Any], as_rows: Callable[[Any], Sequence[Any]]) -> Any:
    """Rows from memory, each through ``as_row``; one image is a list of one; files and data frames stay. as_rows: the
    rows of a single mapping, or of a Series of pandas.
    """
    if isinstance(rows, (str, Path)):
        _check_is_file(rows)
    elif _is_image(rows):
        return [as_row(rows)]
    elif isinstance(rows, Mapping) or column_kind(rows) == "pandas":
        return [as_row(row) for row in as_rows(rows)]
    elif isinstance(rows, Iterable) and not frame_kind(rows):
        return (as_row(row) for row in rows)
    return rows


def _as_rows(rows: Any, fields: Sequence[str], single: Collection[str]) -> Sequence[Any]:
    """A mapping as one row; or, where columns that hold no lists are lists, as columns of as many rows. A Series of
    pandas as a row, by the names in its index, or as a column of values.

    Raises:
        SchemaError: the columns are of different lengths, or the Series has names and none of them is a column.
    """
    if not isinstance(rows, Mapping):
        names = [str(name) for name in rows.index]
        if any(name in fields for name in names):
            return [rows.to_dict()]
        if str(rows.name) not in fields and any(isinstance(name, str) for name in rows.index):
            raise SchemaError(
                f"a row with the columns {', '.join(map(repr, names[:10]))} has none that the model reads: "
                f"{', '.join(map(repr, fields))}.",
                hint="Give a data frame, or a list of values where the model reads one column.",
            )
        return list(rows)
    columns = {name: list(v) for name, v in rows.items() if _is_column(v)}
    if not any(str(name) in single for name in columns):
        return [rows]
    lengths = {str(name): len(columns[name]) if name in columns else None for name in rows}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name!r} has {'no list' if n is None else n}" for name, n in list(lengths.items())[:10])
        raise SchemaError(
            f"a mapping of columns needs lists of one length: {shown}.",
            hint="For one row put its mapping into a list: predict([row]).",
        )
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def with_columns(
    records: Iterable[Record], fields: Sequence[str], *, strictness: Strictness | None, report: ReadReport
) -> Iterator[Record]:
    """The records, after checking that each column stands in one of the first ``LOOKED_AT``: a wrong file is one error,
    not one per row, and which row comes first does not matter.

    When lenient, a column that is not there is missing in every row, as long as one of them is there; None: the verb
    knows no strictness. report: of the reading; its rejections keep their places between the records that wait here.

    Raises:
        SchemaError: a column that the model reads is not there.
    """
    missing, known = dict.fromkeys(fields), dict[str, None]()
    waiting: list[tuple[list[Rejection], Record]] = []

    def waited() -> Iterator[Record]:
        for rejected, record in waiting:
            report.rejected[:0] = rejected
            yield record
        waiting.clear()

    def is_wrong() -> bool:
        return bool(missing) and (strictness != "lenient" or len(missing) == len(fields))

    for record in records:
        if not missing and not waiting:
            yield record
            continue
        known |= dict.fromkeys(record.row)
        missing = {name: None for name in missing if name not in known}
        waiting.append((list(report.rejected), record))
        report.rejected.clear()
        if not is_wrong():
            missing = {}
            yield from waited()
        elif len(waiting) == LOOKED_AT:
            break
    if waiting and is_wrong():
        name, file = next(iter(missing)), waiting[0][1].location.file
        remedy = "Add the column."
        if strictness in ("normal", "strict"):
            remedy = "Add the column, or take it as missing: strictness='lenient' (predict --lenient)."
        if waiting[0][1].location.line == 2:  # below what was taken for a header
            remedy += f" If the first line is a row as well, say {option('header', False)}."
        with header_explained(report):
            raise no_column(name, known, "which the model reads", file=file, hint=remedy)


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


def as_row(row: Any, fields: Sequence[str]) -> Any:
    """A bare value (a string, an image) is a row where the model reads one column. Raises SchemaError elsewhere."""
    if isinstance(row, (Mapping, Record)):
        return row
    if column_kind(row) == "pandas":
        return _as_rows(row, fields, ())[0]
    if len(fields) == 1:
        return {fields[0]: row}
    raise SchemaError(
        f"a row is {quoted(row, 60)}, but the model reads {len(fields)} columns: {listed(fields)}.",
        hint="Give a mapping with these names.",
    )


def _is_column(value: Any) -> bool:
    """A list of values, as a Series or an array is one, too."""
    flat = isinstance(value, np.ndarray) and value.ndim == 1
    return flat or isinstance(value, (list, tuple)) or column_kind(value) is not None


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
