"""Rows from files, standard input, data frames and lists: one function, one kind of Record, constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from polydetr.core.access import IN_MEMORY, SAY_IMAGES, FileAccess
from polydetr.core.records import ReadReport, Record, access_of
from polydetr.data.readers.boxes_csv import read_boxes_csv
from polydetr.data.readers.columns import read_columns
from polydetr.data.readers.delimited import read_delimited
from polydetr.data.readers.formats import FORMATS, find_folder_format, find_format
from polydetr.data.readers.image_folder import read_image_folder
from polydetr.data.readers.json_rows import read_json, read_jsonl, read_rows
from polydetr.data.readers.source import open_source
from polydetr.data.readers.tables import frame_kind, read_frame, read_parquet
from polydetr.data.readers.voc import read_voc
from polydetr.data.readers.yolo import TEST_PARTS, TRAIN_PARTS, VALID_PARTS, read_yolo
from polydetr.errors import DataFileError, SchemaError

__all__ = ["FORMATS", "TEST_PARTS", "TRAIN_PARTS", "VALID_PARTS", "ReadReport", "read_records"]


def read_records(
    source: Any,
    *,
    format: str | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    report: ReadReport | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
    columns: Sequence[str] | None = None,
    scheme: str = "auto",
    images: str | Path | None = None,
    also: str | Path | None = None,
    split: str | Sequence[str] | None = None,
) -> Iterator[Record]:
    """The rows of ``source``, one at a time.

    Args:
        source: a path, "-" for standard input (JSON lines or CSV), an iterable of mappings or of Records, or a
            pandas, polars or pyarrow table; a folder of images or of labeled folders of images; for boxes also a
            Pascal VOC or YOLO folder. Everything is streamed except ``.json`` documents and tables of boxes.
        format: one of ``FORMATS`` or ``KNOWN_BY_CONTENT``; found from name and content when None.
        on_error: "raise" at the first bad row, or "skip": it is rejected into ``report`` and reading goes on.
        report: filled while reading: rows, rejected rows with reasons, what was repaired. Pass one to see it.
        encoding: of a text file that is neither UTF-8 nor marked UTF-16.
        delimiter, header, columns: of a CSV or TSV file; recognized when None. ``header=False``: the first line is
        data. scheme: of the tags of a column file: IOB1, IOB2, BIOES, BMES, "plain" (labels without spans), or "auto".
        images: the folder of the images that the rows name: paths begin there, and nothing outside of it is opened.
        None: paths begin where the file lies that names them; of rows from standard input, at the working
        directory, which they may not leave. also: another folder to look in, last, which confines nothing.
        split: the part of a YOLO data.yaml to read ("train", "val" or "test"), or several, of which the first that it
        has is read.

    Raises:
        DataFileError, SchemaError: at once, where the source as a whole cannot be read.
        RowError: while iterating, at a bad row, with ``on_error="raise"``.
    """
    if on_error not in ("raise", "skip"):
        raise SchemaError(f"on_error is {on_error!r}, expected 'raise' or 'skip'.")
    report = report if report is not None else ReadReport()
    skip = on_error == "skip"
    access = FileAccess.named(Path() if images is None and _is_stream(source) else images, also=also)
    if images is not None and not Path(images).expanduser().is_dir():
        raise DataFileError(f"{str(images)!r} is no folder of images.", hint=f"Name another: {SAY_IMAGES}.")
    records = _open(
        source, report=report, skip=skip, access=access, format=format, encoding=encoding, delimiter=delimiter,
        header=header, columns=columns, scheme=scheme, split=split,
    )  # fmt: skip
    if access == IN_MEMORY:
        return records
    return (replace(r, access=replace(access, folder=access_of(r).folder)) for r in records)


def _is_stream(source: Any) -> bool:
    """True for rows whose origin is not known: standard input, a pipe."""
    if not isinstance(source, (str, Path)):
        return False
    path = Path(source)
    return str(source) == "-" or (path.exists() and not path.is_file() and not path.is_dir())


def _open(
    source: Any,
    *,
    report: ReadReport,
    skip: bool,
    access: FileAccess,
    format: str | None,
    encoding: str | None,
    delimiter: str | None,
    header: bool | None,
    columns: Sequence[str] | None,
    scheme: str,
    split: str | Sequence[str] | None,
) -> Iterator[Record]:
    """``read_records``, with the reader of the source's format."""
    if frame_kind(source):
        return read_frame(source, report=report)
    if not isinstance(source, (str, Path)):
        if isinstance(source, Mapping) or not isinstance(source, Iterable):
            raise SchemaError(
                f"cannot read rows from {type(source).__name__}.",
                hint="Expected a path, a list of rows ({field: value}), or a pandas, polars or pyarrow table.",
            )
        return read_rows(source, name=None, report=report, skip=skip)
    if str(source) != "-" and (folder := find_folder_format(Path(source), format)):
        if folder == "voc":
            return read_voc(Path(source), report=report, skip=skip, access=access)
        if folder == "images":
            return read_image_folder(Path(source), report=report)
        return read_yolo(Path(source), report=report, skip=skip, access=access, split=split)
    file = open_source(source, encoding=encoding)
    kind = find_format(file, format)
    if kind == "boxes":
        return read_boxes_csv(file, report=report, skip=skip, delimiter=delimiter, columns=columns, access=access)
    if kind in ("csv", "tsv"):
        delimiter = delimiter or ("\t" if kind == "tsv" else None)
        return read_delimited(file, report=report, skip=skip, delimiter=delimiter, header=header, columns=columns)
    if kind == "parquet":
        return read_parquet(file, report=report)
    if kind == "conll":
        return read_columns(file, report=report, skip=skip, scheme=scheme)
    if kind == "jsonl":
        return read_jsonl(file, report=report, skip=skip)
    return read_json(file, report=report, skip=skip, only=kind if kind in ("squad", "coco") else None, access=access)
