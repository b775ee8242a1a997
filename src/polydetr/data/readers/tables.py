"""Parquet files and data frames, batch by batch.

pandas and polars are recognized by the module of the type, never imported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.shapes import plain_row, usual_shape
from polydetr.data.readers.source import Source
from polydetr.errors import DataFileError, Location, SchemaError

_BATCH = 1024


_TABLES = {"pandas": {"DataFrame"}, "polars": {"DataFrame", "LazyFrame"}, "pyarrow": {"Table", "RecordBatch"}}
_COLUMNS = {"pandas": {"Series"}, "polars": {"Series"}}


def frame_kind(value: Any) -> str | None:
    """ "pandas", "polars" or "pyarrow" for a table of theirs, or of a subclass, else None."""
    return _library(value, _TABLES)


def column_kind(value: Any) -> str | None:
    """ "pandas" or "polars" for a Series of theirs (a column; of pandas, also a row), else None."""
    return _library(value, _COLUMNS)


def _library(value: Any, names: Mapping[str, set[str]]) -> str | None:
    for kind in type(value).__mro__:
        library = kind.__module__.partition(".")[0]
        if kind.__name__ in names.get(library, ()):
            return library
    return None


def read_frame(frame: Any, *, report: ReadReport) -> Iterator[Record]:
    """One Record per row. NaN, NaT and NA of pandas become None; arrays become lists; names of columns become text.

    Raises SchemaError for duplicate column names (pandas and pyarrow allow them).
    """
    kind = frame_kind(frame) or ""
    if kind != "polars":
        names = frame.columns if kind == "pandas" else frame.schema.names
        twice = [name for name, count in Counter(map(str, names)).items() if count > 1]
        if twice:
            raise SchemaError(f"the data frame has the column {twice[0]!r} twice.", hint="Rename one of them.")
    return _records({"pandas": _pandas, "polars": _polars, "pyarrow": _arrow}[kind](frame, report), report)


def _records(rows: Iterator[Mapping[str, Any]], report: ReadReport, name: str | None = None) -> Iterator[Record]:
    for number, row in enumerate(rows, 1):
        location = Location(name, row=number)
        report.rows += 1
        yield Record(usual_shape(plain_row(row), location, report), location)


def _pandas(frame: Any, report: ReadReport) -> Iterator[dict[str, Any]]:
    names = [str(c) for c in frame.columns]
    _declare(report, {name: str(dtype) for name, dtype in zip(names, frame.dtypes, strict=True)})
    for start in range(0, len(frame), _BATCH):
        part = frame.iloc[start : start + _BATCH]
        columns = [[_of_pandas(v) for v in part.iloc[:, i].tolist()] for i in range(len(names))]
        for values in zip(*columns, strict=True):
            yield dict(zip(names, values, strict=True))


def _of_pandas(value: Any) -> Any:
    if hasattr(value, "tolist"):  # an array in a cell
        return value.tolist()
    if isinstance(value, float) and value != value:
        return None
    return None if type(value).__name__ in ("NAType", "NaTType") else value


def _polars(frame: Any, report: ReadReport) -> Iterator[dict[str, Any]]:
    frame = frame.collect() if type(frame).__name__ == "LazyFrame" else frame
    _declare(report, {name: str(dtype) for name, dtype in frame.schema.items()})
    yield from frame.iter_rows(named=True)


def _arrow(table: Any, report: ReadReport) -> Iterator[dict[str, Any]]:
    _declare(report, _arrow_types(table.schema))
    batches = table.to_batches(max_chunksize=_BATCH) if hasattr(table, "to_batches") else [table]
    for batch in batches:
        yield from batch.to_pylist()


def _arrow_types(schema: Any) -> dict[str, str]:
    """Column → its type; that of pandas where pandas wrote it (Parquet has no dictionaries of numbers)."""
    columns = (schema.pandas_metadata or {}).get("columns", ())
    of_pandas = {str(column["name"]): str(column["pandas_type"]) for column in columns}
    return {field.name: str(field.type) for field in schema} | of_pandas


def _declare(report: ReadReport, types: Mapping[str, str]) -> None:
    """Keeps which columns are of a type for categories: pandas' category, polars' Categorical and Enum, pyarrow's
    dictionary.
    """
    categories = ("category", "categorical", "enum", "dictionary")
    report.declared |= {name: "category" for name, kind in types.items() if kind.lower().startswith(categories)}


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
    return _records(_parquet_rows(source, report), report, source.name)


def _parquet_rows(source: Source, report: ReadReport) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(source.path) as file:
            _declare(report, _arrow_types(file.schema_arrow))
            for batch in file.iter_batches(batch_size=_BATCH):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataFileError(f"is damaged: {error}", location=Location(source.name)) from None
