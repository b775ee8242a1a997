"""Parquet files and data frames, batch by batch.

pandas and polars are recognized by the module of the type, never imported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from polydetr.core.installed import is_installed, pip_install
from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.class_names import class_names, with_class_names
from polydetr.data.readers.json_rows import read_rows
from polydetr.data.readers.pandas_index import index_columns, note_index, said_by_pandas
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


def read_frame(frame: Any, *, report: ReadReport, skip: bool) -> Iterator[Record]:
    """One Record per row. NaN, NaT and NA of pandas become None; arrays become lists; names of columns become text. An
    index is left out.

    Raises SchemaError for duplicate column names (pandas and pyarrow allow them).
    """
    kind = frame_kind(frame) or ""
    if type(frame).__name__ == "LazyFrame":
        frame = frame.collect()
    names = frame.schema.names if kind == "pyarrow" else [str(column) for column in frame.columns]
    _refuse_twice(names, "data frame")
    index = index_columns(names, frame.schema.metadata if kind == "pyarrow" else None)
    named = [str(name) for name in frame.index.names if name is not None] if kind == "pandas" else []
    note_index([*named, *index], report)
    kept = [name for name in names if name not in index]
    _declare(report, _frame_types(frame, kind))
    rows = {"pandas": _pandas, "polars": _polars, "pyarrow": _arrow}[kind](frame, kept)
    return read_rows(rows, name=None, report=report, skip=skip, halves=kind == "pandas")


def _pandas(frame: Any, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    places = [i for i, column in enumerate(frame.columns) if str(column) in names]
    for start in range(0, len(frame), _BATCH):
        part = frame.iloc[start : start + _BATCH]
        columns = [[_of_pandas(v) for v in part.iloc[:, i].tolist()] for i in places]
        for values in zip(*columns, strict=True):
            yield dict(zip(names, values, strict=True))


def _of_pandas(value: Any) -> Any:
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
        yield from with_class_names(_values(batch.select(names)), classes)


def _refuse_twice(names: Sequence[str], what: str, location: Location | None = None) -> None:
    """Raises SchemaError where two columns have one name, as pandas and pyarrow allow it."""
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise SchemaError(
            f"the {what} has the column {twice[0]!r} twice.", location=location, hint="Rename one of them."
        )


def _values(batch: Any, file: str | None = None) -> list[dict[str, Any]]:
    """The rows of a batch of pyarrow. Raises DataFileError for what Python has no value for, as a date after 9999."""
    try:
        return batch.to_pylist()
    except UnicodeDecodeError:
        raise
    except (OverflowError, ValueError):
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            try:
                column.to_pylist()
            except (OverflowError, ValueError) as error:
                location = Location(file, column=name)
                raise DataFileError(f"holds what Python has no value for: {error}", location=location) from None
        raise


def _frame_types(frame: Any, kind: str) -> dict[str, str]:
    """Column → the name of its type."""
    if kind == "pandas":
        return {str(name): str(dtype) for name, dtype in zip(frame.columns, frame.dtypes, strict=True)}
    return _arrow_types(frame.schema) if kind == "pyarrow" else {n: str(d) for n, d in frame.schema.items()}


def _arrow_types(schema: Any) -> dict[str, str]:
    """Column → its type; that of pandas where pandas wrote it (Parquet has no dictionaries of numbers)."""
    columns = [column for column in said_by_pandas(schema.metadata, "columns") if isinstance(column, dict)]
    of_pandas = {str(column.get("name")): str(column.get("pandas_type")) for column in columns}
    return {field.name: str(field.type) for field in schema} | of_pandas


def _declare(report: ReadReport, types: Mapping[str, str]) -> None:
    """Keeps which columns are of a type for categories: pandas' category, polars' Categorical and Enum, pyarrow's
    dictionary.
    """
    categories = ("category", "categorical", "enum", "dictionary")
    report.declared |= {name: "category" for name, kind in types.items() if kind.lower().startswith(categories)}


def read_parquet(source: Source, *, report: ReadReport, skip: bool) -> Iterator[Record]:
    """Row group by row group; the index of a frame is left out. Raises DataFileError for a file that is not Parquet, is
    truncated, or has no rows; SchemaError for duplicate column names.
    """
    location = Location(source.name)
    if not is_installed("pyarrow"):
        raise DataFileError(
            "Parquet is read by pyarrow, which is not installed.",
            location=location,
            hint=f"{pip_install('parquet')}, or save the table as CSV.",
        )
    import pyarrow as pa
    import pyarrow.parquet as pq

    if source.path is None:
        raise DataFileError("Parquet cannot be read from standard input.", hint="Name the file.")
    try:
        with pq.ParquetFile(source.path) as file:
            if not file.metadata.num_rows:
                raise DataFileError("is a Parquet file without rows.", location=location)
            schema = file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise DataFileError(f"is not a readable Parquet file: {error}", location=location) from None
    _refuse_twice(schema.names, "file", location)
    index = index_columns(schema.names, schema.metadata)
    note_index(index, report)
    _declare(report, _arrow_types(schema))
    kept = [name for name in schema.names if name not in index]
    return read_rows(_parquet_rows(source, kept), name=source.name, report=report, skip=skip, halves=False)


def _parquet_rows(source: Source, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(source.path) as file:
            classes = class_names(file.schema_arrow.metadata)
            for batch in file.iter_batches(batch_size=_BATCH):
                yield from with_class_names(_values(batch.select(names), source.name), classes)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # also a text that is none
        raise DataFileError(f"is damaged: {error}", location=Location(source.name)) from None
