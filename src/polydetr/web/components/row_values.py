"""The cells of a form ↔ the values of a row. Columns are told by their places: a name may be any text."""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from polydetr.errors import InputError

Kind = Literal["text", "number", "category", "date", "image", "history", "json"]
MOST_FILES, MOST_BYTES = 64, 64 << 20
"""Images of one form, and what they have together."""
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


class Uploads:
    """The images of a form by their tokens, as many as it holds: of more the oldest are let go."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def keep(self, content: bytes) -> str:
        """The token by which it is found."""
        token = secrets.token_urlsafe(12)
        self._kept[token] = content
        while len(self._kept) > MOST_FILES or sum(map(len, self._kept.values())) > MOST_BYTES:
            del self._kept[next(iter(self._kept))]
        return token

    def token_of(self, content: Any) -> str | None:
        """The token of an image that is held."""
        return next((token for token, held in self._kept.items() if held is content or held == content), None)

    def get(self, token: str) -> bytes:
        """Raises InputError: it was let go, or never came."""
        if token not in self._kept:
            raise InputError(
                f"an image of the form is not here any more: it holds {MOST_FILES}, of {MOST_BYTES >> 20} MB together.",
                hint="Choose it again, or ask with fewer.",
            )
        return self._kept[token]

    def clear(self) -> None:
        self._kept.clear()


def row_of(fields: Sequence[Field], cells: Any, file: Callable[[str], bytes]) -> dict[str, Any]:
    """What was typed, as a row: a number where it is one, else the text as it stands, None where there is nothing.
    file: the content of an upload by its token. Raises what ``file`` raises.
    """
    cells = cells if isinstance(cells, list) else []
    padded = [*cells, *[None] * (len(fields) - len(cells))]
    return {one.name: _value(one, cell, file) for one, cell in zip(fields, padded, strict=False)}


def _value(one: Field, cell: Any, file: Callable[[str], bytes]) -> Any:
    if one.kind == "image":
        found = [file(token) for token in _list(cell) if isinstance(token, str)]
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
    except (ValueError, RecursionError):
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
