"""A file of rows as a body: CSV, TSV or Parquet, read by the readers of the project out of a private folder."""

from __future__ import annotations

import importlib.util
import re
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from polydetr.core.reading import ExpectedColumns, Leaps, ReadOptions
from polydetr.core.records import ReadReport, Record
from polydetr.data.readers import read_records
from polydetr.engine.encode import Strictness
from polydetr.engine.inputs import with_columns
from polydetr.errors import InputError, RowError
from polydetr.serving.archives import Archive, unpacked, with_images
from polydetr.serving.refusal import Refused
from polydetr.serving.rows import Columns, Item, item_of

FORMATS = {
    "text/csv": "csv",
    "text/tab-separated-values": "tsv",
    "application/vnd.apache.parquet": "parquet",
    "application/x-ndjson": "jsonl",
    "application/jsonl": "jsonl",
}
"""Content type → a format of the readers."""
SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}
GUESSED = ("json", "txt")
"""Suffixes of more formats than one."""
_UNPACKED = 20
"""How many times larger than it came a Parquet file or a workbook may be once it is unpacked."""
_LEAST_UNPACKED = 64 << 20
_FLAGS = {"True": "1", "False": "0"}


@contextmanager
def written(data: bytes, kind: str) -> Iterator[Path]:
    """``data`` as a file that lies alone in a folder of its own, which nobody else may read."""
    with tempfile.TemporaryDirectory(prefix="polydetr-") as folder:
        path = Path(folder, f"rows.{kind}")
        path.write_bytes(data)
        yield path


def items_of_file(
    path: Path,
    kind: str,
    columns: Columns,
    *,
    strictness: Strictness = "normal",
    reading: ReadOptions = ReadOptions(),
    leaps: Leaps | None = None,
    labels: bool = False,
) -> Iterator[Item]:
    """The rows of a file in a folder of its own, one at a time; one that cannot be read is an error in its place.

    kind: its format; one of ``GUESSED`` is known by its content. reading: what else the file does not say about itself.
    leaps: is told how far into the file its reader is, where it can tell. labels: those of column files and of
    questions are read as well; what is wrong with them is then wrong with the row.

    Raises:
        Refused: the file as a whole cannot be read, or lacks a column that the model reads.
    """
    if kind == "parquet":
        check_parquet(path)
    if kind == "xlsx":
        check_workbook(path)
    private = path.parent
    if kind != "zip":
        # The format is said: of others, some look for images. Nothing but the file itself lies in the folder.
        reading = replace(reading, format=None if kind in GUESSED else kind, images=private)
        yield from _items(path, columns, strictness, reading, private, labels=labels, leaps=leaps)
        return
    with unpacked(path) as archive:
        images = archive.images if archive.source.is_file() else None
        reading = replace(reading, images=images)
        yield from _items(archive.source, columns, strictness, reading, private, labels=labels, archive=archive)


def _items(
    source: Path,
    columns: Columns,
    strictness: Strictness,
    reading: ReadOptions,
    private: Path,
    *,
    labels: bool,
    leaps: Leaps | None = None,
    archive: Archive | None = None,
) -> Iterator[Item]:
    """private: the folder of the service's own, which no message names."""
    report = ReadReport()
    expected = ExpectedColumns(columns.inputs, columns.targets, columns.texts)
    reading = replace(reading, on_error="skip")
    try:
        records = read_records(
            source, reading=reading, report=report, expected=expected, labels=labels, leaps=leaps,
            also=None if archive is None else archive.images,
        )  # fmt: skip
        if archive is not None:
            records = _with_images(records, columns, archive, report)
        for record in with_columns(records, columns.inputs, strictness=strictness, report=report):
            yield from _rejected(report, private)
            yield item_of(record.row, columns)
    except InputError as error:
        line = error.location.line if error.location else None
        where = f", line {line}" if line else ""
        hint = None if error.hint is None else in_address(_plain(error.hint, private))
        raise Refused(400, f"the file{where}: {_plain(error.message, private)}", hint=hint, reason="file") from None
    yield from _rejected(report, private)


def _with_images(records: Iterator[Record], columns: Columns, archive: Archive, report: ReadReport) -> Iterator[Record]:
    for record in records:
        try:
            yield with_images(record, columns, archive)
        except RowError as error:
            column = error.location.column if error.location else None
            report.reject(replace(record.location, column=column), error.message)


def _rejected(report: ReadReport, private: Path) -> Iterator[RowError]:
    for rejection in report.rejected:
        yield RowError(_plain(rejection.reason, private), location=rejection.location)
    report.rejected.clear()


def _plain(text: str, private: Path) -> str:
    """Without the place of the file here."""
    return text.replace(f"{private}/", "").replace(str(private), ".")


def in_address(hint: str) -> str:
    """A hint of the readers, for who sends a file: options (``core.reading.option``) stand in the address here."""

    def said(found: re.Match[str]) -> str:
        name, value = found[1], found[2].strip("'")
        if name == "format":
            return "the content type"
        return f"?{name}={_FLAGS.get(value, value)}"

    hint = re.sub(r"--\w[^()]*\(ReadOptions\((\w+)=(.+?)\)\)", said, hint)
    return re.sub(r"strictness='lenient' \([^()]*\)", "?strictness=lenient", hint)


def check_parquet(path: Path) -> None:
    """Raises Refused for a file that is none, or that unpacks to very much more than it is."""
    if importlib.util.find_spec("pyarrow") is None:
        raise Refused(
            415, "Parquet is not read by this service.", hint="Send CSV, or install polydetr-core[parquet] there."
        )
    import pyarrow as pa
    import pyarrow.parquet as pq

    most = max(_LEAST_UNPACKED, _UNPACKED * path.stat().st_size)
    try:
        with pq.ParquetFile(path) as file:
            found = file.metadata
            groups = [found.row_group(i) for i in range(found.num_row_groups)]
            claimed = sum(g.column(c).total_uncompressed_size for g in groups for c in range(g.num_columns))
            held = 0
            if claimed <= most:
                for batch in file.iter_batches(batch_size=8, use_threads=False):
                    held += batch.nbytes
                    if held > most:
                        break
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Refused(400, f"the file is not readable as Parquet: {error!s:.200}", reason="file") from None
    if max(claimed, held) > most:
        raise Refused(413, f"the file unpacks to more than {most:,} bytes.", hint="Send fewer rows.", reason="body")


def check_workbook(path: Path) -> None:
    """Raises Refused for a workbook that is none, or that unpacks to very much more than it is: openpyxl holds the
    texts of all its cells.
    """
    most = max(_LEAST_UNPACKED, _UNPACKED * path.stat().st_size)
    try:
        with zipfile.ZipFile(path) as book:
            held = sum(part.file_size for part in book.infolist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise Refused(400, f"the file is not readable as an Excel workbook: {error!s:.200}", reason="file") from None
    if held > most:  # a part that claims less than it holds is damaged, and refused by whoever unpacks it
        raise Refused(413, f"the file unpacks to more than {most:,} bytes.", hint="Send fewer rows.", reason="body")
