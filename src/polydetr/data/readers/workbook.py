"""Excel workbooks (.xlsx), row by row, by openpyxl (the extra ``xlsx``): the first sheet, whose first row names the
columns. Of a formula its last result is read.
"""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO

from polydetr.core.installed import is_installed, pip_install
from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.json_rows import read_rows
from polydetr.data.readers.source import Source
from polydetr.errors import DataFileError, Location, SchemaError, listed, quoted

_FORMULA, _MERGED = re.compile(rb"<(?:\w{1,9}:)?f[\s/>]"), re.compile(rb"<(?:\w{1,9}:)?mergeCell\s")
"""Elements of a sheet."""
_OVERLAP = 24
"""The bytes of the longest of them."""


def read_workbook(source: Source, *, report: ReadReport, skip: bool) -> Iterator[Record]:
    """One Record per row that is not blank; ``location.line`` counts the rows of the sheet.

    Raises:
        DataFileError: openpyxl is not installed, it is no workbook or damaged, or has no rows. SchemaError: two columns
        of one name.
    """
    location = Location(source.name)
    if not is_installed("openpyxl"):
        raise DataFileError(
            "Excel workbooks are read by openpyxl, which is not installed.",
            location=location,
            hint=f"{pip_install('xlsx')}, or save the sheet as CSV.",
        )
    if source.path is None or source.held is not None:
        raise DataFileError("a workbook cannot be read from a stream.", location=location, hint="Name the file.")
    return read_rows(_rows(source.path, report), name=source.name, report=report, skip=skip)


def _rows(path: Path, report: ReadReport) -> Iterator[Record]:
    import openpyxl

    location = Location(str(path))
    with open(path, "rb") as stream:  # no name, of which openpyxl would ask for the suffix .xlsx
        try:
            book = openpyxl.load_workbook(stream, read_only=True, data_only=True)
        except (zipfile.BadZipFile, KeyError, ValueError, OSError, EOFError, SyntaxError) as error:
            raise DataFileError(f"is not a readable Excel workbook: {error}", location=location) from None
        try:
            sheets = book.worksheets
            if len(sheets) > 1:
                left_out = listed([sheet.title for sheet in sheets[1:]])
                report.note("of a workbook the first sheet is read", f"left out: {left_out}", location)
            rows = _cells(stream, sheets[0], location, report) if sheets else iter(())
            yield from _records(enumerate(rows, start=1), str(path), report)
        except (zipfile.BadZipFile, SyntaxError, EOFError) as error:  # of the XML inside
            raise DataFileError(f"is damaged: {error}", location=location) from None


def _cells(stream: BinaryIO, sheet: Any, location: Location, report: ReadReport) -> Iterator[Sequence[Any]]:
    """The values of each row. sheet: the first one of the workbook in ``stream``, with the results of its formulas.

    Raises:
        DataFileError: a formula without a result, as programs other than Excel write it: its cell would read as blank.
    """
    import openpyxl

    sheet.reset_dimensions()  # which some programs write wrongly
    with sheet._get_source() as content:
        has_formulas, is_merged = _holds(content, _FORMULA, _MERGED)
    if is_merged:
        message = "the others are blank: unmerge them, and fill each of them"
        report.note("of merged cells the first has the value", message, location)
    if not has_formulas:
        yield from sheet.iter_rows(values_only=True)
        return
    written = openpyxl.load_workbook(stream, read_only=True).worksheets[0]
    written.reset_dimensions()
    for results, cells in zip(sheet.iter_rows(), written.iter_rows(), strict=True):
        for result, cell in zip(results, cells, strict=True):
            if cell.data_type == "f" and result.value is None and result.data_type == "n":  # "str": an empty text
                raise DataFileError(
                    f"{cell.coordinate} holds a formula without a result.",
                    location=location,
                    hint="Open the workbook in Excel and save it.",
                )
        yield tuple(result.value for result in results)


def _holds(stream: IO[bytes], *patterns: re.Pattern[bytes]) -> list[bool]:
    """Whether each of the patterns occurs, in a small part of the time that parsing takes."""
    found, end = [False] * len(patterns), b""
    while (block := stream.read(1 << 20)) and not all(found):
        part = end + block
        found = [known or pattern.search(part) is not None for known, pattern in zip(found, patterns, strict=True)]
        end = part[-_OVERLAP:]
    return found


def _records(rows: Iterator[tuple[int, Sequence[Any]]], file: str, report: ReadReport) -> Iterator[Record]:
    names: list[str] = []
    number, blank = 0, None
    for line, cells in rows:
        if all(cell is None or cell == "" for cell in cells):
            blank = blank or (Location(file, line=line) if names else None)
            continue
        if not names:
            names = _names(cells, Location(file, line=line))
            continue
        if blank is not None:
            report.note("blank rows of a sheet are left out", "a row between the others is blank", blank)
            blank = None
        number += 1
        row = dict.fromkeys(names) | dict(zip(names, cells, strict=False))
        row |= {_unnamed(i): cell for i, cell in enumerate(cells, start=1) if i > len(names) and cell is not None}
        yield Record(row, Location(file, number, None, line))
    if not number:
        raise DataFileError("is an Excel workbook without rows in its first sheet.", location=Location(file))


def _names(cells: Sequence[Any], location: Location) -> list[str]:
    """The names in the first row, up to the last one."""
    cells = list(cells)
    while cells[-1] is None:
        cells.pop()
    names = [_unnamed(i) if cell is None else str(cell).strip() for i, cell in enumerate(cells, start=1)]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise SchemaError(f"the column {quoted(twice[0])} is there twice.", location=location, hint="Rename one.")
    return names


def _unnamed(number: int) -> str:
    """What a column is called that has no name in the first row; number: from 1."""
    return f"column {number}"
