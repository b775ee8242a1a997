"""The cells of a form ↔ the values of a row. Columns are told by their places: a name may be any text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["text", "number", "category", "date", "image", "history", "json"]
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class Field:
    """A column as a form shows it. low, high: the range that is usual (of a date: years with fractions). names: those
    to choose from, total: how many there are in all. several: more than one image. fields, most: of a history, the
    columns of its items, and how many are read.
    """

    name: str
    kind: Kind = "text"
    note: str = ""
    example: str = ""
    low: float | None = None
    high: float | None = None
    names: Sequence[str] = ()
    total: int = 0
    several: bool = False
    fields: Sequence[Field] = field(default_factory=tuple)
    most: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """As the form's script takes it."""
        return {**vars(self), "names": list(self.names), "fields": [one.to_dict() for one in self.fields]}


def row_of(fields: Sequence[Field], cells: Any, file: Callable[[str], bytes | None]) -> dict[str, Any]:
    """What was typed, as a row: a number where it is one, else the text as it stands, None where there is nothing.
    file: the content of an upload by its token; None where it is not there any more.
    """
    cells = cells if isinstance(cells, list) else []
    padded = [*cells, *[None] * (len(fields) - len(cells))]
    return {one.name: _value(one, cell, file) for one, cell in zip(fields, padded, strict=False)}


def _value(one: Field, cell: Any, file: Callable[[str], bytes | None]) -> Any:
    if one.kind == "image":
        found = [content for token in _list(cell) if isinstance(token, str) and (content := file(token)) is not None]
        return (found or None) if one.several else next(iter(found), None)
    if one.kind == "history":
        return [row_of(one.fields, item, file) for item in _list(cell)] or None
    if not isinstance(cell, str) or not cell.strip():
        return None
    cell = _whole(cell)
    if one.kind == "number":
        return _number(cell.strip())
    if one.kind == "json":
        return _json(cell)
    return cell if one.kind == "text" else cell.strip()


def _whole(said: str) -> str:
    """Without halves of characters (lone surrogates), which a browser can send and no file can hold."""
    if not any("\ud800" <= character <= "\udfff" for character in said):
        return said
    return said.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _number(said: str) -> float | int | str:
    """The number where it is written as such; else the text, which the reader of numbers judges (1.234,5; 12 €)."""
    if not _NUMBER.fullmatch(said):
        return said
    number = float(said)
    if not math.isfinite(number):
        return said
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _json(said: str) -> Any:
    try:
        return json.loads(said)
    except ValueError:
        return said


def _list(cell: Any) -> list[Any]:
    return cell if isinstance(cell, list) else []


def cells_of(
    fields: Sequence[Field], row: Mapping[str, Any], image: Callable[[bytes], dict[str, str] | None]
) -> list[Any]:
    """The inverse: a row's values as the form shows them. image: content → {"token", "name", "source"}."""
    return [_cell(one, row.get(one.name), image) for one in fields]


def _cell(one: Field, value: Any, image: Callable[[bytes], dict[str, str] | None]) -> Any:
    if one.kind == "image":
        each = value if isinstance(value, list | tuple) else [value]
        return [found for content in each if isinstance(content, bytes) and (found := image(content))]
    if one.kind == "history":
        items = value if isinstance(value, list | tuple) else []
        return [cells_of(one.fields, item, image) for item in items if isinstance(item, Mapping)]
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return json.dumps(value, ensure_ascii=False, default=str)
    return f"{value:.15g}"
