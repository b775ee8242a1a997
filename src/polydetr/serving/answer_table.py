"""Answers as CSV: the user's own columns with the answers beside them, as ``polydetr predict --out`` writes them.

The cells come with the replies (``Ask.cells``): what a table says of an answer is its task's to know.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from polydetr.core.tables import TableColumn, distinct_names
from polydetr.data.writers import TableWriter, table_writer
from polydetr.data.writers.delimited import DelimitedWriter
from polydetr.errors import Location, RowError
from polydetr.serving.contract import Reply
from polydetr.serving.rows import Item

DELIMITERS = {"text/csv": ",", "text/tab-separated-values": "\t"}


class AnswersAsTable:
    """Writes into ``file``, which stays open. own: the user's columns, those of the first rows that it is told of where
    they are not named. suffix: of ``data.writers.TABLES``, in place of text between delimiters.
    """

    def __init__(
        self, file: IO[bytes], *, delimiter: str = ",", own: Sequence[str] = (), suffix: str | None = None
    ) -> None:
        self._file, self._delimiter, self._suffix = file, delimiter, suffix
        self._writer: TableWriter | None = None
        self._own = own
        self._answered: Sequence[str] = ()

    def write(self, items: Sequence[Item], replies: Sequence[Reply]) -> None:
        """Some rows more, with the replies to them."""
        writer = self._writer or self._begin(items, replies)
        for item, reply in zip(items, replies, strict=True):
            row = {} if isinstance(item, RowError) else item
            cells = reply.get("cells") or {"error": _in_words(reply)}
            writer.write([*(row.get(name) for name in self._own), *(cells.get(name) for name in self._answered)])

    @property
    def size(self) -> int:
        """Bytes that the file has so far."""
        return self._file.tell()

    def close(self) -> Sequence[str]:
        """Writes what is left; where no row came, nothing. Messages about what the file could not hold as it was."""
        return () if self._writer is None else self._writer.close()

    def _begin(self, items: Sequence[Item], replies: Sequence[Reply]) -> TableWriter:
        self._own = self._own or list(
            dict.fromkeys(name for item in items if not isinstance(item, RowError) for name in item)
        )
        self._answered = next((list(r["cells"]) for r in replies if r.get("cells")), ["error"])
        names = [*self._own, *distinct_names(self._answered, self._own)]
        columns = [*map(TableColumn, names)]
        if self._suffix is not None:
            self._writer = table_writer(Path(f"answers{self._suffix}"), self._file, columns)
        else:
            self._writer = DelimitedWriter(self._file, columns, delimiter=self._delimiter)
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
