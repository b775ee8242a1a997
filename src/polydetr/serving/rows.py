"""Rows as callers send them → rows as a fleet takes them: an image is bytes, and a string is never a path."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from polydetr.data.readers.shapes import check_values
from polydetr.data.writers.base import plain_cell
from polydetr.engine.inputs import as_row
from polydetr.errors import InputError, Location, RowError, quoted, row_fault
from polydetr.schema.spec import IGNORE
from polydetr.serving.contract import ModelInfo, Row

Item = Row | RowError
"""A row to ask, or why it is none; the error stands in its place among the answers."""
IMAGE_HINT = 'Send {"base64": "..."}, a data: address, or the image as a part of multipart/form-data.'
_DATA = re.compile(r"data:image/[a-z0-9.+-]{1,40}(?:;[a-z0-9=.-]{1,40}){0,4};base64,", re.IGNORECASE)
_READERS_NAME = "image"
"""What readers of boxes call an image's column, whatever the model calls it (``engine.inputs``)."""


@dataclass(frozen=True)
class Columns:
    """What a model reads. images: the columns whose cells are images; histories: those whose cells are lists of rows of
    their own.
    """

    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    texts: tuple[str, ...]
    images: frozenset[str]
    histories: frozenset[str]

    @classmethod
    def of(cls, info: ModelInfo) -> Columns:
        """As the model's folder describes them."""
        schema = info.description["schema"]
        kinds = {field["name"]: field["modality"] for field in schema["inputs"] if field["modality"] != IGNORE}

        def named(kind: str) -> list[str]:
            return [name for name, one in kinds.items() if one == kind]

        images = {*named("image"), *([_READERS_NAME] if named("image") else [])}
        return cls(
            tuple(kinds), tuple(target["name"] for target in schema["targets"]), tuple(named("text")),
            frozenset(images), frozenset(named("history")),
        )  # fmt: skip


def items_of(rows: Iterable[Any], columns: Columns) -> list[Item]:
    """Each row as it can be asked, or its error."""
    return [item_of(row, columns) for row in rows]


def item_of(row: Any, columns: Columns) -> Item:
    """One row, or its error: whatever is wrong with it is wrong with it alone."""
    try:
        found = as_row(row, columns.inputs)
        if columns.images or columns.histories or any(type(v) not in _PLAIN for v in found.values()):
            found = {name: _cell(name, value, columns) for name, value in found.items()}
        check_values(found)
        return found
    except InputError as error:
        return error if isinstance(error, RowError) else RowError(error.message, hint=error.hint)
    except Exception as error:
        return row_fault(error, Location())


_PLAIN = frozenset((str, int, float, bool, type(None)))


def _cell(name: str, value: Any, columns: Columns) -> Any:
    if name in columns.images:
        return [_image(name, one) for one in value] if isinstance(value, list | tuple) else _image(name, value)
    if name in columns.histories and isinstance(value, list):
        return [_item_of_history(one) for one in value]
    return _json_value(value)


def _image(column: str, value: Any) -> Any:
    """The bytes of an image. Raises RowError for what names one, and for what is none."""
    is_nan = isinstance(value, float) and math.isnan(value)  # of a table with types
    if value is None or is_nan or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):
        if found := _DATA.match(value):
            return _decoded(value[found.end() :], column)
        raise RowError(
            f"{quoted(value, 60)} is text, expected an image: no path and no address is opened here.",
            location=Location(column=column), hint=IMAGE_HINT,
        )  # fmt: skip
    if isinstance(value, Mapping):
        if isinstance(value.get("base64"), str):
            return _decoded(
                value["base64"].partition(",")[2] if _DATA.match(value["base64"]) else value["base64"], column
            )
        if isinstance(value.get("bytes"), bytes):  # as Hugging Face's files hold an image
            return value["bytes"]
    raise RowError(
        f"{quoted(value, 60)} is no image.", location=Location(column=column), hint=IMAGE_HINT
    )  # fmt: skip


def _decoded(text: str, column: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RowError(
            f"the image is no base64 ({error}).", location=Location(column=column), hint="No line breaks, = at the end."
        ) from None


def _item_of_history(item: Any) -> Any:
    """An item whose images are base64, decoded; its strings stay texts."""
    if not isinstance(item, Mapping):
        return item
    coded = {n: v["base64"] for n, v in item.items() if isinstance(v, Mapping) and isinstance(v.get("base64"), str)}
    return {**item, **{name: _decoded(text, name) for name, text in coded.items()}}


def _json_value(value: Any) -> Any:
    """A cell of a table with types (Parquet) as JSON has it."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Mapping):
        return {str(name): _json_value(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(one) for one in value]
    value = plain_cell(value)
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return value if value is None or isinstance(value, str | int | float | bytes | list) else str(value)
