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
        self._quoted = csv.writer(self._text, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
        self._rows.writerow([text_cell(column.name) for column in columns])

    def write(self, cells: Sequence[Any]) -> None:
        texts = [text_cell(cell) for cell in cells]
        # Before Python 3.13 the writer leaves a carriage return bare where its own rows end with a line feed.
        rows = self._quoted if any("\r" in text for text in texts) else self._rows
        rows.writerow(texts)

    def close(self) -> Sequence[str]:
        self._text.flush()
        self._text.detach()  # whoever opened the file closes it
        return ()
