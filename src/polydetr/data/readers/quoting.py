"""Rows of a table cut at its delimiter, each line accounted for where a quotation mark is none.

A text may begin with a quotation mark that quotes nothing. By the letter of RFC 4180 it then takes in all lines up to
the next mark that ends a field. Such a row gives itself away: each of its lines alone has the fields of a row, which
takes as many delimiters inside of what is quoted. Lines are therefore held until their row is complete.
"""

from __future__ import annotations

import csv
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from polydetr.data.readers.header import is_number

_FEW = 0.2
"""At most this share of a column's values are distinct where it can be told whether a value belongs there."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the rows are cut; ``preamble``: lines above the first row (Excel's ``sep=;``); ``spaced``: blanks after a
    delimiter belong to no field, so that a quotation mark behind them quotes.
    """

    delimiter: str
    quoted: bool
    preamble: int = 0
    spaced: bool = False

    def reader(self, lines: Iterator[str]):
        csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # one field may be a whole book
        quoting = csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
        return csv.reader(lines, delimiter=self.delimiter, quoting=quoting, skipinitialspace=self.spaced, strict=True)


Cut = tuple[int, list[str], str, str]
"""The line where a row begins; its cells; why it has none; how a quotation mark in it was taken. (No class: a row costs
less than that.)
"""
TAKEN = "a quotation mark that quotes nothing was read as part of the text"
KEPT = "a quoted field reaches over several lines, each of which could be a row by itself"


def cut_rows(lines: Iterator[str], dialect: Dialect, sample: Sequence[Sequence[str]]) -> Iterator[Cut]:
    """The rows, blank lines left out. sample: the first of them, by which is judged what a row looks like."""
    again: deque[str] = deque()
    held: list[str] = []  # the lines of the row under way
    for _ in range(dialect.preamble):
        next(lines, None)
    reader, line = dialect.reader(_feed(lines, again, held)), 1 + dialect.preamble
    while True:
        fault = warning = ""
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            cells, fault = [], _fault(str(error), line)
        if fault or len(held) > 1:
            cells, fault, warning = _judged(cells, fault, held, dialect, sample)
            if fault or warning == TAKEN:  # only the first line belongs to it
                again.extendleft(reversed(held[1:]))
                del held[1:]
                reader = dialect.reader(_feed(lines, again, held))
        if cells or fault:
            yield line, cells, fault, warning
        line += len(held)
        held.clear()


def _feed(lines: Iterator[str], again: deque[str], held: list[str]) -> Iterator[str]:
    """The lines handed back, then those that follow, each of them noted in ``held``."""
    while again:
        held.append(again.popleft())
        yield held[-1]
    for line in lines:
        held.append(line)
        yield line


def _judged(
    cells: list[str], fault: str, held: Sequence[str], dialect: Dialect, sample: Sequence[Sequence[str]]
) -> tuple[list[str], str, str]:
    """Cells, fault and warning of a row: as it is, or its first line alone where its quotation mark quotes nothing."""
    plain = replace(dialect, quoted=False)
    width = len(sample[0]) if sample else 0
    first = _cells(held[0], plain)
    if fault:  # a mark that is never closed, or closed inside a field
        literal = dialect.delimiter == "\t" and len(first) == width
        return (first, "", TAKEN) if literal else ([], fault, "")
    if width < 2 or any(len(_cells(line, plain)) != width for line in held):
        return cells, "", ""
    if dialect.delimiter == "\t" or _fits(sample, [_cells(line, plain) for line in held]):
        return first, "", TAKEN
    return cells, "", KEPT


def _cells(line: str, plain: Dialect) -> list[str]:
    """The fields of a line in which quotation marks mean nothing; none where it cannot be cut."""
    try:
        return next(plain.reader(iter([line])), [])
    except csv.Error:
        return []


def _fits(sample: Sequence[Sequence[str]], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the columns of the sample that hold few values or numbers alone do so in these rows as well; False where
    there is no such column.
    """
    telling = False
    for i in range(len(sample[0])):
        known = [row[i] for row in sample[1:] if len(row) == len(sample[0])]
        numbers = bool(known) and all(map(is_number, known))
        if not numbers and len(set(known)) > _FEW * len(known):
            continue
        telling = True
        if not all(is_number(row[i]) if numbers else row[i] in known for row in rows):
            return False
    return telling


def _fault(error: str, line: int) -> str:
    if "unexpected end" in error:
        return f'the quotation mark (") opened in the row that begins at line {line} is never closed.'
    if "new-line" in error:
        return "a carriage return stands inside a field that is not quoted."
    return f"the row is not valid CSV: {error}."
