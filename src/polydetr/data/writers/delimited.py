"""CSV and TSV: UTF-8, quoted as RFC 4180 has it, a line feed after each row."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import IO, Any

from polydetr.core.tables import TableColumn
from polydetr.data.writers.base import text_cell


class DelimitedWriter:
    """See ``TableWriter``."""

    def __init__(self, file: IO[bytes], columns: Sequence[TableColumn], *, delimiter: str = ",") -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        self._rows = csv.writer(self._text, delimiter=delimiter, lineterminator="\n")
        self._rows.writerow([text_cell(column.name) for column in columns])

    def write(self, cells: Sequence[Any]) -> None:
        self._rows.writerow([text_cell(cell) for cell in cells])

    def close(self) -> Sequence[str]:
        self._text.flush()
        self._text.detach()  # whoever opened the file closes it
        return ()
