"""Excel workbooks, streamed by openpyxl (the extra ``xlsx``): text as text, numbers, dates and truth values as such."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Sequence
from typing import IO, Any

from polydetr.core.installed import is_installed, pip_install
from polydetr.core.tables import TableColumn
from polydetr.data.writers.base import plain_cell, text_cell
from polydetr.errors import SaveError, quoted

LONGEST_CELL = 32_767
"""Characters (UTF-16 units) of a cell. This and what follows: support.microsoft.com, "Excel specifications and limits".
"""
MOST_ROWS = 1_048_576
MOST_COLUMNS = 16_384
_LARGEST_WHOLE = 10**15
"""Excel keeps 15 digits of a number."""
_FIRST_YEAR = 1900
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_LINE_END = re.compile("\r\n?")
_CUT = "… [cut]"


def check_workbooks() -> None:
    """Raises SaveError where openpyxl is not installed."""
    if not is_installed("openpyxl"):
        raise SaveError(
            "Excel workbooks are written by openpyxl, which is not installed.",
            hint=f"{pip_install('xlsx')}, or write .csv.",
        )


class WorkbookWriter:
    """See ``TableWriter``. Where the rows of a sheet are full, another begins, with the same head."""

    def __init__(self, file: IO[bytes], columns: Sequence[TableColumn]) -> None:
        check_workbooks()
        from openpyxl import Workbook

        if len(columns) > MOST_COLUMNS:
            raise SaveError(
                f"{len(columns):,} columns are more than the {MOST_COLUMNS:,} of an Excel sheet.",
                hint="Write .csv or .parquet.",
            )
        self._file, self._book = file, Workbook(write_only=True)
        self._names = [column.name for column in columns]
        self._cut: list[str] = []
        self._cut_cells = self._rows = self._room = 0
        self._next_sheet()

    def write(self, cells: Sequence[Any]) -> None:
        if not self._room:
            self._next_sheet()
        self._rows += 1
        self._append([self._cell(cell, name) for cell, name in zip(cells, self._names, strict=True)])

    def close(self) -> Sequence[str]:
        self._book.save(self._file)
        messages = []
        if (sheets := len(self._book.worksheets)) > 1:
            messages.append(f"{self._rows:,} rows are more than an Excel sheet holds: they fill {sheets} sheets")
        if self._cut_cells:
            cells = "1 text was" if self._cut_cells == 1 else f"{self._cut_cells:,} texts were"
            messages.append(f"{cells} cut to the {LONGEST_CELL:,} characters of an Excel cell ({self._cut[0]} first)")
        return messages

    def _next_sheet(self) -> None:
        number = len(self._book.worksheets) + 1
        self._sheet = self._book.create_sheet("answers" if number == 1 else f"answers {number}")
        self._sheet.freeze_panes = "A2"
        self._room = MOST_ROWS
        self._append([self._text(name, name) for name in self._names])

    def _append(self, cells: Sequence[Any]) -> None:
        self._sheet.append(cells)
        self._room -= 1

    def _cell(self, value: Any, name: str) -> Any:
        value = plain_cell(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int) and abs(value) < _LARGEST_WHOLE:
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        if isinstance(value, dt.datetime | dt.date | dt.time) and _has_a_number(value):
            return value
        return self._text(value, name)

    def _text(self, value: Any, name: str) -> Any:
        """A cell that is text whatever it looks like: openpyxl takes "#N/A" for an error."""
        from openpyxl.cell import WriteOnlyCell

        text = _LINE_END.sub(
            "\n", _NOT_XML.sub(lambda found: found[0].encode("unicode_escape").decode(), text_cell(value))
        )
        if len(text) > LONGEST_CELL // 2 and len(text.encode("utf-16-le")) // 2 > LONGEST_CELL:
            text = _cut(text)
            self._cut_cells += 1
            self._cut = self._cut or [f"row {self._rows}, column {quoted(name, 60)}"]
        if not text.startswith(("=", "#")):
            return text or None
        cell = WriteOnlyCell(self._sheet, text)
        cell.data_type = "s"
        return cell


def _cut(text: str) -> str:
    units = text.encode("utf-16-le")[: 2 * (LONGEST_CELL - len(_CUT))]
    return units.decode("utf-16-le", "ignore") + _CUT


def _has_a_number(value: dt.datetime | dt.date | dt.time) -> bool:
    """Whether Excel has this moment as a number: it knows no time zones, and nothing before 1900."""
    if isinstance(value, dt.date) and value.year < _FIRST_YEAR + 1:
        return False
    return getattr(value, "tzinfo", None) is None
