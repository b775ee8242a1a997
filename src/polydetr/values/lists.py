"""Lists and mappings that a cell holds as text: JSON, Python's own notation, NumPy's arrays, or items parted by a mark.

Data frames with lists in their cells, saved as CSV, hold such texts. Nothing is executed: a small grammar of brackets,
quoted texts, numbers and the words true, false and null.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from polydetr.errors import Location, RowError
from polydetr.values.cells import is_missing

ListForm = Literal["brackets", "blanks", "|", ";", ","]
"""How a column writes its lists: ``['a', 'b']``, ``a b``, ``a|b``, ``a;b``, ``a,b``."""

MARKS: tuple[ListForm, ...] = ("|", ";", ",")
"""The marks that part items, the surest first."""

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<mark>[][(){},:])|(?P<word>[^][(){},:"'\s]+))""", re.S
)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.S)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}
_WORDS = {"true": True, "false": False, "null": None, "none": None, "nan": None}
_CALLS = re.compile(r"array|(?:np|numpy)\.(?:array|str_|bool_?|int\d*|float\d*)")
_CLOSES = {"[": "]", "(": ")", "{": "}"}
_DEEPEST = 20


def read_list(text: str) -> list[Any] | dict[str, Any] | None:
    """The list or mapping that a text writes between brackets; None where it writes neither.

    ``["a", 1]``, ``['a', None]``, ``['a' 'b']`` (NumPy), ``{"a": [1]}``, ``{'a', 'b'}``, ``('a',)`` and ``[a, b]`` are
    read. Round brackets around anything but quoted texts are left alone: in them accountants write negative numbers.
    """
    text = text.strip()
    if text[:1] + text[-1:] not in ("[]", "{}") and not (text[:2] in ("('", '("') and text.endswith(")")):
        return None
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    with suppress(_Unreadable):
        return _Parser(text).whole()
    inside = text[1:-1]
    if text[0] == "[" and "," in inside and not re.search(r"""[][(){}"':]""", inside):
        return [part.strip() for part in inside.split(",") if part.strip()]
    return None


@dataclass(frozen=True, slots=True)
class ListColumn:
    """A column of lists. form: how text writes them. places: the names of the labels where each list is a vector of
    zeros and ones, one place per label. empty: an empty cell is an empty list, not a missing one.
    """

    form: ListForm = "brackets"
    places: tuple[str, ...] = ()
    empty: bool = False

    def read(self, value: Any) -> Any:
        """The list that a cell holds; the value itself where it is none.

        Raises:
            RowError: it is not a vector of as many zeros and ones as there are places.
        """
        if isinstance(value, str):
            if not value.strip():
                return [] if self.empty else value
            value = read_items(value, self.form)
        return self._named(value) if self.places and not is_missing(value) else value

    def _named(self, value: Any) -> list[str]:
        if (vector := read_vector(value)) is None or len(vector) != len(self.places):
            raise RowError(
                f"{value!r:.80} is not a vector of {len(self.places)} zeros and ones, as the other rows have."
            )
        return [name for name, is_set in zip(self.places, vector, strict=True) if is_set]

    def to_dict(self) -> dict[str, Any]:
        return {"form": self.form, "places": list(self.places), "empty": self.empty}


def read_vector(value: Any) -> list[bool] | None:
    """A list of zeros and ones, of any type or written as text; None for anything else."""
    items = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(items, (list, tuple)):
        return None
    known = {"0": False, "1": True, "0.0": False, "1.0": True, "False": False, "True": True}
    bits = [known.get(str(item)) for item in items]
    return None if None in bits else [bool(bit) for bit in bits]


def read_lists(row: Mapping[str, Any], columns: Mapping[str, ListColumn]) -> Mapping[str, Any]:
    """The row with the lists of these columns read.

    Raises:
        RowError: see ``ListColumn.read``; its location names the column.
    """
    changed = {}
    for name, column in columns.items():
        value = row.get(name)
        if isinstance(value, str) or column.places:
            try:
                changed[name] = column.read(value)
            except RowError as error:
                raise RowError(error.message, location=Location(column=name)) from None
    return {**row, **{name: value for name, value in changed.items() if name in row}} if changed else row


def read_items(text: str, form: ListForm) -> Any:
    """What a cell of a column of this form holds; the text itself where it is written otherwise."""
    if form != "brackets":
        return split_items(text, form)
    read = read_list(text)
    return text if read is None else read


def split_items(text: str, form: ListForm) -> list[str]:
    """The items of a text that are parted by blanks or by a mark."""
    return text.split() if form == "blanks" else [part for item in text.split(form) if (part := item.strip())]


class _Unreadable(Exception):
    """The text is no list."""


class _Parser:
    """Recursive descent over the tokens of one text; commas between items are optional, as NumPy writes none."""

    def __init__(self, text: str) -> None:
        self.tokens: Iterator[re.Match[str]] = self._cut(text)
        self.token: re.Match[str] | None = None
        self.step()

    def _cut(self, text: str) -> Iterator[re.Match[str]]:
        place = 0
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                raise _Unreadable
            place = match.end()
            yield match

    def step(self) -> None:
        self.token = next(self.tokens, None)

    def whole(self) -> Any:
        value = self.value(0)
        if self.token is not None:
            raise _Unreadable
        return value

    def value(self, depth: int) -> Any:
        token = self.token
        if token is None or depth > _DEEPEST:
            raise _Unreadable
        self.step()
        if token["text"]:
            return _unquoted(token["text"])
        if token["mark"] in _CLOSES:
            return self.items(_CLOSES[token["mark"]], depth + 1)
        if token["word"] and _CALLS.fullmatch(token["word"]):
            return self.called(depth + 1)
        return _word(token["word"])

    def called(self, depth: int) -> Any:
        """The first argument of ``array([...], dtype=object)`` or ``np.str_('a')``."""
        if self.token is None or self.token["mark"] != "(":
            raise _Unreadable
        self.step()
        value = self.value(depth)
        while self.token is not None and self.token["mark"] != ")":
            self.step()
        self.step()
        return value

    def items(self, closes: str, depth: int) -> Any:
        items: list[Any] = []
        values: list[Any] = []
        while self.token is not None:
            mark = self.token["mark"]
            if mark == closes:
                self.step()
                return dict(zip(map(str, items), values, strict=True)) if values else items
            if mark == ",":
                self.step()
                continue
            items.append(self.value(depth))
            if closes == "}" and self.token is not None and self.token["mark"] == ":":
                self.step()
                values.append(self.value(depth))
            if values and len(values) != len(items):
                raise _Unreadable
        raise _Unreadable


def _unquoted(text: str) -> str:
    inside = text[1:-1]
    if "\\" not in inside:
        return inside
    if text[0] == '"':
        with suppress(ValueError):
            return str(json.loads(text))
    return _ESCAPE.sub(lambda m: chr(int(m[1] or m[2], 16)) if m[1] or m[2] else _ESCAPED.get(m[3], m[3]), inside)


def _word(word: str | None) -> Any:
    """A number, or one of the words that stand for a value."""
    if word is None:
        raise _Unreadable
    if word.lower() in _WORDS:
        return _WORDS[word.lower()]
    for kind in (int, float):
        with suppress(ValueError):
            return kind(word)
    raise _Unreadable
