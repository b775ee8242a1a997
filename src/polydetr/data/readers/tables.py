"""Parquet files and data frames, batch by batch.

pandas and polars are recognized by the module of the type, never imported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.shapes import usual_shape
from polydetr.data.readers.source import Source
from polydetr.errors import DataFileError, Location, SchemaError

_BATCH = 1024


def frame_kind(value: Any) -> str | None:
    """ "pandas", "polars" or "pyarrow" for a table of theirs, else None."""
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    tables = {"pandas": {"DataFrame"}, "polars": {"DataFrame", "LazyFrame"}, "pyarrow": {"Table", "RecordBatch"}}
    return library if kind.__name__ in tables.get(library, ()) else None


def read_frame(frame: Any, *, report: ReadReport) -> Iterator[Record]:
    """One Record per row. NaN, NaT and NA of pandas become None; arrays become lists.

    Raises SchemaError for duplicate column names (pandas and pyarrow allow them).
    """
    kind = frame_kind(frame) or ""
    if kind != "polars":
        names = frame.columns if kind == "pandas" else frame.schema.names
        twice = [name for name, count in Counter(map(str, names)).items() if count > 1]
        if twice:
            raise SchemaError(f"the data frame has the column {twice[0]!r} twice.", hint="Rename one of them.")
    return _records({"pandas": _pandas, "polars": _polars, "pyarrow": _arrow}[kind](frame), report)


def _records(rows: Iterator[Mapping[str, Any]], report: ReadReport, name: str | None = None) -> Iterator[Record]:
    for number, row in enumerate(rows, 1):
        location = Location(name, row=number)
        report.rows += 1
        yield Record(usual_shape(row, location, report), location)


def _pandas(frame: Any) -> Iterator[dict[str, Any]]:
    names = [str(c) for c in frame.columns]
    for start in range(0, len(frame), _BATCH):
        part = frame.iloc[start : start + _BATCH]
        columns = [[_plain(v) for v in part.iloc[:, i].tolist()] for i in range(len(names))]
        for values in zip(*columns, strict=True):
            yield dict(zip(names, values, strict=True))


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # an array in a cell
        return value.tolist()
    if isinstance(value, float) and value != value:
        return None
    return None if type(value).__name__ in ("NAType", "NaTType") else value


def _polars(frame: Any) -> Iterator[dict[str, Any]]:
    yield from (frame.collect() if type(frame).__name__ == "LazyFrame" else frame).iter_rows(named=True)


def _arrow(table: Any) -> Iterator[dict[str, Any]]:
    batches = table.to_batches(max_chunksize=_BATCH) if hasattr(table, "to_batches") else [table]
    for batch in batches:
        yield from batch.to_pylist()


def read_parquet(source: Source, *, report: ReadReport) -> Iterator[Record]:
    """Row group by row group. Raises DataFileError for a file that is not Parquet, is truncated, or has no rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    location = Location(source.name)
    if source.path is None:
        raise DataFileError("Parquet cannot be read from standard input.", hint="Name the file.")
    try:
        with pq.ParquetFile(source.path) as file:
            if not file.metadata.num_rows:
                raise DataFileError("is a Parquet file without rows.", location=location)
    except (pa.ArrowException, OSError) as error:
        raise DataFileError(f"is not a readable Parquet file: {error}", location=location) from None
    return _records(_parquet_rows(source), report, source.name)


def _parquet_rows(source: Source) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(source.path) as file:
            for batch in file.iter_batches(batch_size=_BATCH):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # also a text that is none
        raise DataFileError(f"is damaged: {error}", location=Location(source.name)) from None
