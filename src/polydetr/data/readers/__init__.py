"""Rows from files, standard input, data frames and lists: one function, one kind of Record, constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from polydetr.core.access import IN_MEMORY, FileAccess
from polydetr.core.reading import SAY_IMAGES, ExpectedColumns, Leaps, ReadOptions
from polydetr.core.records import ReadReport, Record, access_of
from polydetr.data.readers.boxes_csv import read_boxes_csv
from polydetr.data.readers.class_names import names_beside, records_with_class_names
from polydetr.data.readers.columns import read_columns
from polydetr.data.readers.cvat import read_cvat
from polydetr.data.readers.delimited import read_delimited
from polydetr.data.readers.formats import FORMATS, Format, data_file_in, find_folder_format, find_format
from polydetr.data.readers.image_folder import read_image_folder
from polydetr.data.readers.json_rows import read_json, read_jsonl, read_rows
from polydetr.data.readers.plain_text import read_plain_text
from polydetr.data.readers.source import Source, existing, open_source
from polydetr.data.readers.tables import frame_kind, read_frame, read_parquet
from polydetr.data.readers.voc import read_voc
from polydetr.data.readers.workbook import read_workbook
from polydetr.data.readers.yolo import TEST_PARTS, TRAIN_PARTS, VALID_PARTS, read_yolo
from polydetr.errors import DataFileError, Location, SchemaError

__all__ = ["FORMATS", "TEST_PARTS", "TRAIN_PARTS", "VALID_PARTS", "ReadReport", "name_of_tags", "read_records"]


def name_of_tags(targets: Iterable[str]) -> str:
    """How the column of tags in a column file, which names none, is called: as the one target of the run."""
    names = list(targets)
    return names[0] if len(names) == 1 and names[0] != "tokens" else "tags"


def read_records(
    source: Any,
    *,
    reading: ReadOptions = ReadOptions(),
    report: ReadReport | None = None,
    expected: ExpectedColumns = ExpectedColumns(),
    format: str | None = None,
    on_error: Literal["raise", "skip"] | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
    columns: Sequence[str] | None = None,
    scheme: str | None = None,
    images: str | Path | None = None,
    also: str | Path | None = None,
    split: str | Sequence[str] | None = None,
    labels: bool = True,
    leaps: Leaps | None = None,
) -> Iterator[Record]:
    """The rows of ``source``, one at a time.

    Args:
        source: a path, "-" for standard input (JSON lines or CSV), an iterable of mappings or of Records, or a
            pandas, polars or pyarrow table; a folder of images or of labeled folders of images; for boxes also a
            Pascal VOC or YOLO folder. Everything is streamed except ``.json`` documents and tables of boxes.
        reading: what the source does not say about itself; the keywords that follow ``expected`` are its fields, and
            win over it. A row that cannot be read is raised where ``on_error`` is None.
        report: filled while reading: rows, rejected rows with reasons, what was repaired. Pass one to see it.
        images: the folder of the images that the rows name: paths begin there, and nothing outside of it is opened.
            None: paths begin where the file lies that names them; of rows from standard input, at the working
            directory, which they may not leave. also: another folder to look in, last, which confines nothing.
        split: the part of a YOLO data.yaml to read ("train", "val" or "test"), or several, of which the first that it
            has is read.
        expected: columns that should be there, to tell a header from data; its one target names the column of tags of a
            column file, which names none.
        labels: False for rows to predict: what is wrong or missing in the labels of column files and of questions is
            then not looked at.
        leaps: by which whoever takes the rows leaves out parts of a CSV file, TSV or JSON lines while reading.

    Raises:
        DataFileError, SchemaError: at once, where the source as a whole cannot be read.
        RowError: while iterating, at a bad row, unless ``on_error`` is "skip".
    """
    keywords = {
        "format": format, "on_error": on_error, "encoding": encoding, "delimiter": delimiter, "header": header,
        "columns": columns, "scheme": scheme, "images": images, "split": split,
    }  # fmt: skip
    reading = replace(reading, **{name: value for name, value in keywords.items() if value is not None})
    report = report if report is not None else ReadReport()
    skip = reading.on_error == "skip"
    images = reading.images
    access = FileAccess.named(Path() if images is None and _is_stream(source) else images, also=also)
    if images is not None and not Path(images).expanduser().is_dir():
        raise DataFileError(f"{str(images)!r} is no folder of images.", hint=f"Name another: {SAY_IMAGES}.")
    records = _open(source, reading, expected, report=report, skip=skip, access=access, labels=labels, leaps=leaps)
    if access == IN_MEMORY:
        return records
    return (replace(r, access=replace(access, folder=access_of(r).folder)) for r in records)


def _is_stream(source: Any) -> bool:
    """True for rows whose origin is not known: standard input, a pipe."""
    if not isinstance(source, (str, Path)):
        return False
    if str(source) == "-":
        return True
    path = existing(source)
    return not path.is_file() and not path.is_dir()


def _open(
    source: Any,
    reading: ReadOptions,
    expected: ExpectedColumns,
    *,
    report: ReadReport,
    skip: bool,
    access: FileAccess,
    labels: bool,
    leaps: Leaps | None,
) -> Iterator[Record]:
    """``read_records``, with the reader of the source's kind."""
    if frame_kind(source):
        return read_frame(source, report=report, skip=skip)
    if not isinstance(source, (str, Path)):
        if isinstance(source, Mapping) or not isinstance(source, Iterable):
            raise SchemaError(
                f"cannot read rows from {type(source).__name__}.",
                hint="Expected a path, a list of rows ({field: value}), or a pandas, polars or pyarrow table.",
            )
        return read_rows(source, name=None, report=report, skip=skip)
    return _read_path(source, reading, expected, report=report, skip=skip, access=access, labels=labels, leaps=leaps)


def _read_path(
    source: str | Path,
    reading: ReadOptions,
    expected: ExpectedColumns,
    *,
    report: ReadReport,
    skip: bool,
    access: FileAccess,
    labels: bool,
    leaps: Leaps | None,
) -> Iterator[Record]:
    """The rows of a file, a folder, or standard input."""
    if str(source) != "-" and (inside := data_file_in(existing(source), reading.format)):
        report.note("files that stand for their folder", f"{inside.name} is read", Location(str(source)))
        source = inside
    if str(source) != "-" and (folder := find_folder_format(existing(source), reading.format, labels=labels)):
        if folder == "voc":
            return read_voc(Path(source), report=report, skip=skip, access=access, encoding=reading.encoding)
        if folder == "images":
            return read_image_folder(Path(source), report=report)
        return read_yolo(
            Path(source), report=report, skip=skip, access=access, split=reading.split, encoding=reading.encoding
        )
    file = open_source(source, encoding=reading.encoding)
    kind = find_format(file, reading.format, asked=expected.texts is not None)
    if kind in ("csv", "tsv", "jsonl"):
        file = file.leaping(leaps)
    records = _read_file(file, kind, reading, expected, report=report, skip=skip, access=access, labels=labels)
    if kind in _WITH_CLASS_NAMES and file.path is not None:
        names, said_by = names_beside(file.path)
        return records_with_class_names(records, names, said_by, report) if names else records
    return records


_WITH_CLASS_NAMES: tuple[Format, ...] = ("csv", "tsv", "parquet", "jsonl", "json")
"""Formats of Hugging Face's tables, whose numbers may have names beside the file."""


def _read_file(
    file: Source,
    kind: Format,
    reading: ReadOptions,
    expected: ExpectedColumns,
    *,
    report: ReadReport,
    skip: bool,
    access: FileAccess,
    labels: bool,
) -> Iterator[Record]:
    """The rows of a file of this kind."""
    delimiter, header, columns = reading.delimiter, reading.header, reading.columns
    if kind == "boxes":
        return read_boxes_csv(
            file, report=report, skip=skip, delimiter=delimiter, header=header, columns=columns, access=access
        )
    if kind in ("csv", "tsv"):
        delimiter = delimiter or ("\t" if kind == "tsv" else None)
        return read_delimited(
            file, report=report, skip=skip, delimiter=delimiter, header=header, columns=columns, expected=expected
        )
    if idle := reading.given().keys() & {"delimiter", "header", "columns"}:
        message = f"{', '.join(sorted(idle))}: of tables of text, but this is {kind}"
        report.note("ways to read that mean nothing here", message, Location(file.name))
    if kind == "parquet":
        return read_parquet(file, report=report, skip=skip)
    if kind == "xlsx":
        return read_workbook(file, report=report, skip=skip)
    if kind == "text":
        return read_plain_text(file, report=report, expected=expected)
    if kind == "conll":
        return read_columns(
            file, report=report, skip=skip, scheme=reading.scheme, columns=columns,
            tags=name_of_tags(expected.targets), labels=labels,
        )  # fmt: skip
    if kind == "cvat":
        return read_cvat(file, report=report, skip=skip, access=access)
    if kind == "jsonl":
        return read_jsonl(file, report=report, skip=skip)
    only = kind if kind in ("squad", "coco", "labelstudio") else None
    return read_json(file, report=report, skip=skip, only=only, access=access, labels=labels)
