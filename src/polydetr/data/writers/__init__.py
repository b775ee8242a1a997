"""Tables as files, row by row, in constant memory: CSV, TSV, Parquet and Excel workbooks, by the name of the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from polydetr.core.tables import TableColumn
from polydetr.data.writers.base import TableWriter
from polydetr.data.writers.delimited import DelimitedWriter
from polydetr.data.writers.parquet import ParquetTable, check_parquet
from polydetr.data.writers.workbook import WorkbookWriter, check_workbooks

__all__ = ["TABLES", "TableWriter", "check_table", "table_writer"]

_WRITERS: dict[str, Callable[[IO[bytes], Sequence[TableColumn]], TableWriter]] = {
    ".csv": DelimitedWriter,
    ".tsv": lambda file, columns: DelimitedWriter(file, columns, delimiter="\t"),
    ".parquet": ParquetTable,
    ".xlsx": WorkbookWriter,
}
_CHECKS = {".parquet": check_parquet, ".xlsx": check_workbooks}
TABLES = tuple(_WRITERS)
"""The suffixes of files that are written as tables."""


def check_table(path: Path) -> None:
    """Raises SaveError where a package is missing that writes a table of this name."""
    if check := _CHECKS.get(path.suffix.lower()):
        check()


def table_writer(path: Path, file: IO[bytes], columns: Sequence[TableColumn]) -> TableWriter:
    """The writer of a table called ``path``, which writes into ``file``.

    Raises:
        SaveError: that kind of file cannot hold so many columns, or what writes it is not installed.
    """
    return _WRITERS[path.suffix.lower()](file, columns)
