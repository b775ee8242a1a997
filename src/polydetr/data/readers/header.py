"""Whether the first line of a table names its columns, and what they are called where it does not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from polydetr.core.reading import ExpectedColumns, option
from polydetr.core.records import ReadReport
from polydetr.errors import DataFileError, Location, SchemaError

NO_HEADER = "no header"
"""The kind under which a report says that the columns' names were made up."""
_HEADER_WORDS = frozenset(
    ["text", "label", "sentence", "title", "category", "class", "question", "answer", "id", "target", "tags"]
)
_NUMBERED = re.compile(r"column_\d+")
_MADE_UP = re.compile(rf"{_NUMBERED.pattern}|text|label")


def has_header(
    file: str,
    rows: Sequence[Sequence[str]],
    *,
    header: bool | None,
    columns: Sequence[str] | None,
    expected: ExpectedColumns,
    report: ReadReport,
) -> bool:
    """Whether the first row is the header: as the user says; or it holds a name that is given, in its place, or one
    that is expected; or it does not look like data.
    """
    if header is not None:
        return header
    first = [cell.strip() for cell in rows[0]] if rows else []
    if columns is not None:
        named = any(name and name.casefold() == cell.casefold() for name, cell in zip(columns, first, strict=False))
        if not named and not looks_headerless(rows):
            message = f"{_shown(first)}; if it names the columns, say {option('header', True)}"
            report.note("the first line read as data, since the columns are named", message, Location(file, line=1))
        return named
    if any(name in expected for name in first):
        return True
    numbered = bool(expected.inputs) and all(map(_NUMBERED.fullmatch, expected.inputs))  # so there was none in training
    return not numbered and not looks_headerless(rows)


def looks_headerless(rows: Sequence[Sequence[str]]) -> bool:
    """True if the first row is data: a cell of it recurs as a value of its column, or is a number above numbers.

    One recurrence is enough in a short file only: a text column may well hold its own name once.
    """
    if len(rows) < 2 or any(cell.strip().lower() in _HEADER_WORDS for cell in rows[0]):
        return False
    first, rest = rows[0], [r for r in rows[1:] if list(r) != list(rows[0])]  # a header may be repeated half-way
    for i, cell in enumerate(first):
        below = [r[i] for r in rest if i < len(r)]
        recurs = below.count(cell) >= (2 if len(below) >= 20 else 1)
        if cell and below and (recurs or (is_number(cell) and all(map(is_number, below)))):
            return True
    return False


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def name_columns(
    file: str,
    rows: Sequence[Sequence[str]],
    *,
    header: bool,
    columns: Sequence[str] | None,
    expected: ExpectedColumns,
    report: ReadReport,
) -> list[str]:
    """The column names: given, from the header, or made up for a file without one."""
    location = Location(file, line=1)
    if not rows:
        raise DataFileError(
            "no row could be read.",
            location=location,
            hint=f"Is a quotation mark never closed, or the delimiter another? Name it with {option('delimiter')}.",
        )
    if columns is not None:
        if len(columns) != len(rows[0]):
            raise SchemaError(
                f"--columns names {len(columns)}, and the rows have {len(rows[0])}; the first is {_shown(rows[0])}.",
                location=location,
            )
        names = list(columns)
    elif header:
        names = [cell.strip() or f"column_{i}" for i, cell in enumerate(rows[0], 1)]
    else:
        names = _default_names(rows, expected)
        message = f"The first line, {_shown(rows[0])}, looks like data, so the columns were named {', '.join(names)}."
        how = f"If it names them, say {option('header', True)}; to name them yourself, {option('columns')}."
        report.note(NO_HEADER, f"{message} {how}", location)
    twice = [n for n, count in Counter(names).items() if count > 1]
    if twice:
        raise SchemaError(
            f"column {twice[0]!r} appears {names.count(twice[0])} times in the header.",
            location=location,
            hint=f"Rename one of them, or name all columns with {option('columns')} and say {option('header', True)}.",
        )
    return names


@contextmanager
def header_explained(report: ReadReport) -> Iterator[None]:
    """A column that is missed where the names were made up: the error says so, and how to say otherwise."""
    try:
        yield
    except SchemaError as error:
        if NO_HEADER not in report.examples:
            raise
        raise SchemaError(error.message, location=error.location, hint=report.examples[NO_HEADER][0]) from None


def _default_names(rows: Sequence[Sequence[str]], expected: ExpectedColumns) -> list[str]:
    """Names that say nothing, of two columns "text" for the longer; a model's own, where those say nothing either, or
    it reads one column and here is one.
    """
    width = len(rows[0])
    if width == 1:
        names = ["text"]
    elif width != 2:
        names = [f"column_{i}" for i in range(1, width + 1)]
    else:
        sizes = [sum(len(r[i]) for r in rows if len(r) == 2) for i in range(2)]
        names = ["text", "label"] if sizes[0] >= sizes[1] else ["label", "text"]
    inputs = expected.inputs
    known = (width == 1 or all(map(_MADE_UP.fullmatch, inputs))) and not set(inputs) <= set(names)
    return list(inputs) if known and len(inputs) == width else names


def _shown(row: Sequence[str]) -> str:
    text = ", ".join(row)
    return repr(text if len(text) <= 80 else f"{text[:79]}…")
