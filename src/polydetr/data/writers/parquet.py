"""Parquet, row group by row group. Nothing is escaped: the file has types, and no program runs its text."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import IO, TYPE_CHECKING, Any

from polydetr.core.installed import is_installed, pip_install
from polydetr.core.tables import TableColumn
from polydetr.data.writers.base import cell_text, plain_cell, whole_characters
from polydetr.errors import SaveError, quoted

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_ROWS = 10_000
_BYTES = 64 << 20
"""Of a row group: so much is held in memory."""


def check_parquet() -> None:
    """Raises SaveError where pyarrow is not installed."""
    if not is_installed("pyarrow"):
        raise SaveError(
            "Parquet is written by pyarrow, which is not installed.",
            hint=f"{pip_install('parquet')}, or write .csv.",
        )


class ParquetTable:
    """See ``TableWriter``. The user's columns get the types of the cells of the first row group: numbers, truth values,
    dates and bytes as such, all else as text, lists and mappings as JSON.
    """

    def __init__(self, file: IO[bytes], columns: Sequence[TableColumn]) -> None:
        check_parquet()
        self._file, self._columns = _Counted(file), columns
        self._writer: pq.ParquetWriter | None = None
        self._types: list[Any] = []
        self._rows: list[Sequence[Any]] = []
        self._bytes = self._written = 0

    def write(self, cells: Sequence[Any]) -> None:
        self._rows.append([plain_cell(cell) for cell in cells])
        self._bytes += sum(len(cell) for cell in cells if isinstance(cell, str | bytes))
        if len(self._rows) >= _ROWS or self._bytes >= _BYTES:
            self._write_group()

    def close(self) -> Sequence[str]:
        if self._rows or not self._written:
            self._write_group()
        if self._writer is not None:
            self._writer.close()
        return ()

    def _write_group(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        cells = list(zip(*self._rows, strict=True)) or [()] * len(self._columns)
        writer = self._writer
        if writer is None:
            self._types = [_type_of(column, own) for column, own in zip(self._columns, cells, strict=True)]
            names = [whole_characters(column.name) for column in self._columns]
            schema = pa.schema(list(zip(names, self._types, strict=True)))
            self._writer = writer = pq.ParquetWriter(pa.PythonFile(self._file, "w"), schema)
        arrays = [self._array(i, own) for i, own in enumerate(cells)]
        writer.write_table(pa.Table.from_arrays(arrays, schema=writer.schema))
        self._written += len(self._rows)
        self._rows, self._bytes = [], 0

    def _array(self, place: int, cells: Sequence[Any]) -> Any:
        """The cells of one column of this row group.

        Raises:
            SaveError: a cell is not of the type that the column has.
        """
        import pyarrow as pa

        kind = self._types[place]
        if kind == pa.string():
            cells = [None if cell is None else cell_text(cell) for cell in cells]
        try:
            return pa.array(cells, kind)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            row, cell = next((i, cell) for i, cell in enumerate(cells, start=1) if not _fits(cell, kind))
            raise SaveError(
                f"row {self._written + row} has {quoted(cell, 60)} in column {quoted(self._columns[place].name, 60)}, "
                f"whose first rows hold {kind}: Parquet has one type per column.",
                hint="Write .csv, which takes any cell.",
            ) from None


class _Counted(io.RawIOBase):
    """A file that knows where it is, as Parquet asks: a pipe does not."""

    def __init__(self, file: IO[bytes]) -> None:
        self._inner, self._at = file, 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._inner.write(data)
        self._at += len(memoryview(data).cast("B"))
        return len(data)

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        if not self._inner.closed:
            self._inner.flush()


def _type_of(column: TableColumn, cells: Iterable[Any]) -> Any:
    import pyarrow as pa

    kinds = {
        "text": pa.string(), "number": pa.float64(), "whole": pa.int64(), "truth": pa.bool_(), "nested": pa.string(),
        "vector": pa.list_(pa.float32()),
    }  # fmt: skip
    if column.kind != "own":
        return kinds[column.kind]
    try:
        found = pa.array([cell for cell in cells if cell is not None]).type
    except (pa.ArrowException, TypeError, ValueError, OverflowError):  # of several types
        return pa.string()
    return found if _has_one_value(found) else pa.string()


def _has_one_value(kind: Any) -> bool:
    from pyarrow import types

    plain = (types.is_integer, types.is_floating, types.is_boolean, types.is_temporal, types.is_binary)
    return any(check(kind) for check in plain)


def _fits(cell: Any, kind: Any) -> bool:
    import pyarrow as pa

    try:
        pa.array([cell], kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return True
