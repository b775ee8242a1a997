"""The rows of a file with their replies, kept on the disk: read part by part, also while more are written."""

from __future__ import annotations

import base64
import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from polydetr.errors import RowError
from polydetr.serving.contract import Reply
from polydetr.serving.refusal import json_bytes
from polydetr.serving.rows import Columns, Item, item_of

_MOST_BYTES = 8 << 20
"""Of lines that are read at once, but for one that is longer."""


class AnsweredRow(NamedTuple):
    """One row. row: as it was sent, with images as {"base64": ...}, as ``rows.item_of`` takes it; None where it could
    not be read.
    """

    row: Mapping[str, Any] | None
    reply: Reply

    def item(self, columns: Columns) -> Item:
        """The row as a fleet takes it."""
        return RowError("the row could not be read.") if self.row is None else item_of(self.row, columns)


class AnsweredRows:
    """A file of such rows. Memory: 8 bytes per row. names: all columns that the rows have had so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: dict[str, None] = {}
        self._ends = array("Q")
        self._file: IO[bytes] | None = None

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._ends[-1] if self._ends else 0

    @contextmanager
    def open(self) -> Iterator[None]:
        """While rows are written. Raises OSError."""
        with self.path.open("xb") as self._file:
            yield

    def write(self, items: Sequence[Item], replies: Sequence[Reply]) -> None:
        """Some rows more. Raises OSError."""
        assert self._file is not None
        lines = [json_bytes([_kept(item), reply]) + b"\n" for item, reply in zip(items, replies, strict=True)]
        self._file.write(b"".join(lines))
        self._file.flush()
        for item, line in zip(items, lines, strict=True):
            if not isinstance(item, RowError):
                self.names |= dict.fromkeys(item)
            self._ends.append(self.size + len(line))  # a reader sees a row when it is there

    def read(self, first: int, most: int) -> list[AnsweredRow]:
        """Up to ``most`` rows from number ``first`` on, which counts from 1; fewer where they are long.

        Raises:
            OSError.
        """
        begin, last = first - 1, min(first - 1 + most, len(self))
        if not 0 <= begin < last:
            return []
        offset = self._ends[begin - 1] if begin else 0
        while last > begin + 1 and self._ends[last - 1] - offset > _MOST_BYTES:
            last = begin + max(1, (last - begin) // 2)
        with self.path.open("rb") as file:
            file.seek(offset)
            data = file.read(self._ends[last - 1] - offset)
        return [AnsweredRow(*json.loads(line)) for line in data.split(b"\n")[:-1]]

    def all(self) -> Iterator[AnsweredRow]:
        """Every row that is there, in order, a part of them in memory at a time."""
        done = 0
        while rows := self.read(done + 1, 1000):
            yield from rows
            done += len(rows)


def _kept(item: Item) -> Any:
    return None if isinstance(item, RowError) else {name: _kept_cell(cell) for name, cell in item.items()}


def _kept_cell(cell: Any) -> Any:
    if isinstance(cell, bytes):
        return {"base64": base64.b64encode(cell).decode()}
    if isinstance(cell, Mapping):
        return {name: _kept_cell(one) for name, one in cell.items()}
    return [_kept_cell(one) for one in cell] if isinstance(cell, list | tuple) else cell


def rows_of(path: Path) -> Iterator[AnsweredRow]:
    """The rows of such a file that nobody writes any more. Raises OSError."""
    with path.open("rb") as file:
        for line in file:
            yield AnsweredRow(*json.loads(line))
