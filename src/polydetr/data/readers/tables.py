"""Parquet files and data frames, batch by batch.

pandas and polars are recognized by the module of the type, never imported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.class_names import class_names, with_class_names
from polydetr.data.readers.json_rows import read_rows
from polydetr.data.readers.pandas_index import index_columns, note_index
from polydetr.data.readers.source import Source
from polydetr.errors import DataFileError, Location, SchemaError

_BATCH = 1024


def frame_kind(value: Any) -> str | None:
    """ "pandas", "polars" or "pyarrow" for a table of theirs, else None."""
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    tables = {"pandas": {"DataFrame"}, "polars": {"DataFrame", "LazyFrame"}, "pyarrow": {"Table", "RecordBatch"}}
    return library if kind.__name__ in tables.get(library, ()) else None


def read_frame(frame: Any, *, report: ReadReport, skip: bool) -> Iterator[Record]:
    """One Record per row. NaN, NaT and NA of pandas become None; arrays become lists. An index is left out.

    Raises SchemaError for duplicate column names (pandas and pyarrow allow them).
    """
    kind = frame_kind(frame) or ""
    if type(frame).__name__ == "LazyFrame":
        frame = frame.collect()
    names = frame.schema.names if kind == "pyarrow" else [str(column) for column in frame.columns]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise SchemaError(f"the data frame has the column {twice[0]!r} twice.", hint="Rename one of them.")
    index = index_columns(names, frame.schema.metadata if kind == "pyarrow" else None)
    named = [str(name) for name in frame.index.names if name is not None] if kind == "pandas" else []
    note_index([*named, *index], report)
    kept = [name for name in names if name not in index]
    rows = {"pandas": _pandas, "polars": _polars, "pyarrow": _arrow}[kind](frame, kept)
    return read_rows(rows, name=None, report=report, skip=skip, check=kind == "pandas")


def _pandas(frame: Any, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    places = [i for i, column in enumerate(frame.columns) if str(column) in names]
    for start in range(0, len(frame), _BATCH):
        part = frame.iloc[start : start + _BATCH]
        columns = [[_plain(v) for v in part.iloc[:, i].tolist()] for i in places]
        for values in zip(*columns, strict=True):
            yield dict(zip(names, values, strict=True))


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # an array in a cell
        return value.tolist()
    if isinstance(value, float) and value != value:
        return None
    return None if type(value).__name__ in ("NAType", "NaTType") else value


def _polars(frame: Any, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    yield from frame.select(names).iter_rows(named=True)


def _arrow(table: Any, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    batches = table.to_batches(max_chunksize=_BATCH) if hasattr(table, "to_batches") else [table]
    classes = class_names(table.schema.metadata)
    for batch in batches:
        yield from with_class_names(batch.select(names).to_pylist(), classes)


def read_parquet(source: Source, *, report: ReadReport, skip: bool) -> Iterator[Record]:
    """Row group by row group; the index of a frame is left out. Raises DataFileError for a file that is not Parquet, is
    truncated, or has no rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    location = Location(source.name)
    if source.path is None:
        raise DataFileError("Parquet cannot be read from standard input.", hint="Name the file.")
    try:
        with pq.ParquetFile(source.path) as file:
            if not file.metadata.num_rows:
                raise DataFileError("is a Parquet file without rows.", location=location)
            schema = file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise DataFileError(f"is not a readable Parquet file: {error}", location=location) from None
    index = index_columns(schema.names, schema.metadata)
    note_index(index, report)
    kept = [name for name in schema.names if name not in index]
    return read_rows(_parquet_rows(source, kept), name=source.name, report=report, skip=skip, check=False)


def _parquet_rows(source: Source, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(source.path) as file:
            classes = class_names(file.schema_arrow.metadata)
            for batch in file.iter_batches(batch_size=_BATCH):
                yield from with_class_names(batch.select(names).to_pylist(), classes)
    except (pa.ArrowException, OSError) as error:
        raise DataFileError(f"is damaged: {error}", location=Location(source.name)) from None
