"""The rows to predict or to measure on: from whatever the user gives to records with the columns that a model reads."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from polydetr.core.records import ReadReport, Record
from polydetr.data.readers import TEST_PARTS, TRAIN_PARTS, read_records
from polydetr.data.readers.source import open_source
from polydetr.data.readers.tables import frame_kind
from polydetr.engine.encode import Strictness
from polydetr.errors import DataFileError, Location, SchemaError, nearest
from polydetr.values.files import is_image_name

_OF_BOXES = frozenset({"image", "objects", "image_id"})
"""Columns of every row from a reader of boxes."""


class ReadingWarning(UserWarning):
    """Something in the rows was left out or repaired when they were read."""


def asked_records(
    rows: Any,
    fields: Sequence[str],
    *,
    format: str | None = None,
    encoding: str | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    report: ReadReport | None = None,
    strictness: Strictness = "normal",
    images: str | Path | None = None,
    also: str | Path | None = None,
    split: Sequence[str] = (*TEST_PARTS, *TRAIN_PARTS),
    image: str | None = None,
) -> Iterator[Record]:
    """What ``Predictor.predict`` takes, as records with the columns ``fields``; see ``read_records`` and
    ``with_columns``. At their end, a ``ReadingWarning`` for each kind of thing that reading left out or repaired.

    image: the one column of images that is read, whose name stands for what readers of images call "image".
    """
    report = ReadReport() if report is None else report
    are_images = isinstance(rows, str | Path) and (Path(rows).is_dir() or is_image_name(rows))
    rows = _each(rows, lambda row: _as_row(row, fields))
    records = read_records(
        rows, format=format, encoding=encoding, on_error=on_error, report=report, images=images, also=also, split=split
    )
    if image is not None:
        records = (_renamed(record, image, are_images=are_images) for record in records)
    return _with_notes(with_columns(records, fields, strictness=strictness), report)


def _renamed(record: Record, image: str, *, are_images: bool) -> Record:
    """The record with ``image`` as the name of its image, where a reader of images or of boxes named it."""
    if image in record.row or not (are_images or record.row.keys() >= _OF_BOXES):
        return record
    return replace(record, row={image if name == "image" else name: cell for name, cell in record.row.items()})


def _with_notes(records: Iterator[Record], report: ReadReport) -> Iterator[Record]:
    yield from records
    for line in report.notes():
        warnings.warn(line, ReadingWarning, stacklevel=2)


def target_records(rows: Any, target: str) -> Iterator[Record]:
    """Rows with the column ``target``; bare values stand for such rows."""
    rows = _each(rows, lambda row: row if isinstance(row, Mapping) and target in row else {target: row})
    return with_columns(read_records(rows), [target], strictness="normal")


def _each(rows: Any, as_row: Callable[[Any], Any]) -> Any:
    """Rows from memory, each through ``as_row``; one row or image is a list of one; files and data frames stay."""
    if isinstance(rows, (str, Path)):
        _check_is_file(rows)
    elif isinstance(rows, Mapping) or _is_image(rows):
        return [as_row(rows)]
    elif isinstance(rows, Iterable) and not frame_kind(rows):
        return (as_row(row) for row in rows)
    return rows


def with_columns(records: Iterable[Record], fields: Sequence[str], *, strictness: Strictness) -> Iterator[Record]:
    """The records, after checking that the first has the columns: a wrong file is one error, not one per row.

    When lenient, a column that is not there is missing in every row, as long as one of them is there.

    Raises:
        SchemaError: a column that the model reads is not in the first row.
    """
    first = True
    for record in records:
        missing = [name for name in fields if name not in record.row] if first else []
        if missing and (strictness != "lenient" or len(missing) == len(fields)):
            known = ", ".join(repr(c) for c in record.row)
            raise SchemaError(
                f"there is no column {missing[0]!r}, which the model reads; the columns are {known}.",
                location=Location(file=record.location.file),
                hint=nearest(missing[0], record.row)
                or "Add the column, or take it as missing: strictness='lenient' (predict --lenient).",
            )
        first = False
        yield record


def with_targets(records: Iterable[Record], targets: Iterable[str]) -> Iterator[Record]:
    """The records; at their end, each target must have been a column of some row.

    Raises:
        SchemaError: a target column is in none of the rows.
    """
    missing = set(targets)
    record = None
    for record in records:
        missing -= set(record.row)
        yield record
    if record is not None and missing:
        name = min(missing)
        raise SchemaError(
            f"there is no column {name!r}, the target to measure against; the columns are "
            f"{', '.join(map(repr, record.row))}.",
            location=Location(file=record.location.file),
            hint=nearest(name, record.row),
        )


def _as_row(row: Any, fields: Sequence[str]) -> Any:
    """A bare value (a string, an image) is a row where the model reads one column."""
    if isinstance(row, (Mapping, Record)):
        return row
    if len(fields) == 1:
        return {fields[0]: row}
    raise SchemaError(
        f"a row is {row!r:.60}, but the model reads {len(fields)} columns: {', '.join(map(repr, fields))}.",
        hint="Give a mapping with these names.",
    )


def _is_image(value: Any) -> bool:
    """An array of one image, or one of Pillow's; an array of several is a list of them."""
    if frame_kind(value):
        return False
    shape = getattr(value, "__array_interface__", {}).get("shape", ())
    return len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))


def _check_is_file(source: str | Path) -> None:
    if str(source) != "-" and not Path(source).exists():
        try:
            open_source(source)
        except DataFileError as error:
            hint = error.hint
            if not Path(source).suffix or " " in str(source):
                hint = f"{hint} To answer a text itself, put it into a list: predict([text])."
            raise DataFileError(error.message, location=error.location, hint=hint) from None
