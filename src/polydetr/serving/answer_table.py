"""Answers as CSV: the user's own columns with the answers beside them, as ``polydetr predict --out`` writes them.

The cells come with the replies (``Ask.cells``): what a table says of an answer is its task's to know.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import IO, Any

from polydetr.core.tables import TableColumn, distinct_names
from polydetr.data.writers.delimited import DelimitedWriter
from polydetr.errors import Location, RowError
from polydetr.serving.contract import Reply
from polydetr.serving.rows import Item

DELIMITERS = {"text/csv": ",", "text/tab-separated-values": "\t"}


class AnswersAsTable:
    """Writes into ``file``, which stays open; the columns are those of the first rows that it is told of."""

    def __init__(self, file: IO[bytes], *, delimiter: str = ",") -> None:
        self._file, self._delimiter = file, delimiter
        self._writer: DelimitedWriter | None = None
        self._own: Sequence[str] = ()
        self._answered: Sequence[str] = ()

    def write(self, items: Sequence[Item], replies: Sequence[Reply]) -> None:
        """Some rows more, with the replies to them."""
        writer = self._writer or self._begin(items, replies)
        for item, reply in zip(items, replies, strict=True):
            row = {} if isinstance(item, RowError) else item
            cells = reply.get("cells") or {"error": _in_words(reply)}
            writer.write([*(row.get(name) for name in self._own), *(cells.get(name) for name in self._answered)])

    def close(self) -> None:
        """Writes what is left; where no row came, nothing."""
        if self._writer is not None:
            self._writer.close()

    def _begin(self, items: Sequence[Item], replies: Sequence[Reply]) -> DelimitedWriter:
        self._own = list(dict.fromkeys(name for item in items if not isinstance(item, RowError) for name in item))
        self._answered = next((list(r["cells"]) for r in replies if r.get("cells")), ["error"])
        names = [*self._own, *distinct_names(self._answered, self._own)]
        self._writer = DelimitedWriter(self._file, [*map(TableColumn, names)], delimiter=self._delimiter)
        return self._writer


def table_bytes(items: Sequence[Item], replies: Sequence[Reply], *, delimiter: str) -> bytes:
    """The table of one request."""
    file = io.BytesIO()
    table = AnswersAsTable(file, delimiter=delimiter)
    table.write(items, replies)
    table.close()
    return file.getvalue()


def _in_words(reply: Reply) -> str:
    error: Mapping[str, Any] = reply.get("error") or {}
    place = {k: v for k, v in (error.get("location") or {}).items() if k in ("row", "column", "line")}
    return str(RowError(str(error.get("message", "")), location=Location(**place), hint=error.get("hint")))
