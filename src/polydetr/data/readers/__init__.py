"""Rows from files, standard input, data frames and lists: one function, one kind of Record, constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.boxes_csv import read_boxes_csv
from polydetr.data.readers.columns import read_columns
from polydetr.data.readers.delimited import read_delimited
from polydetr.data.readers.formats import FORMATS, find_folder_format, find_format
from polydetr.data.readers.image_folder import read_image_folder
from polydetr.data.readers.json_rows import read_json, read_jsonl, read_rows
from polydetr.data.readers.source import open_source
from polydetr.data.readers.tables import frame_kind, read_frame, read_parquet
from polydetr.data.readers.voc import read_voc
from polydetr.data.readers.yolo import read_yolo
from polydetr.errors import SchemaError

__all__ = ["FORMATS", "ReadReport", "read_records"]


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
    split: str | None = None,
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
        images: the folder of the images that boxes are drawn on, where they are not beside the annotations.
        split: the part of a YOLO data.yaml to read: "train" (taken when None), "val" or "test".

    Raises:
        DataFileError, SchemaError: at once, where the source as a whole cannot be read.
        RowError: while iterating, at a bad row, with ``on_error="raise"``.
    """
    if on_error not in ("raise", "skip"):
        raise SchemaError(f"on_error is {on_error!r}, expected 'raise' or 'skip'.")
    report = report if report is not None else ReadReport()
    skip = on_error == "skip"
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
            return read_voc(Path(source), report=report, skip=skip, images=images, encoding=encoding)
        if folder == "images":
            return read_image_folder(Path(source), report=report)
        return read_yolo(Path(source), report=report, skip=skip, images=images, split=split, encoding=encoding)
    file = open_source(source, encoding=encoding)
    kind = find_format(file, format)
    if kind == "boxes":
        return read_boxes_csv(
            file, report=report, skip=skip, delimiter=delimiter, header=header, columns=columns, images=images
        )
    if kind in ("csv", "tsv"):
        delimiter = delimiter or ("\t" if kind == "tsv" else None)
        return read_delimited(file, report=report, skip=skip, delimiter=delimiter, header=header, columns=columns)
    if kind == "parquet":
        return read_parquet(file, report=report)
    if kind == "conll":
        return read_columns(file, report=report, skip=skip, scheme=scheme)
    if kind == "jsonl":
        return read_jsonl(file, report=report, skip=skip)
    return read_json(file, report=report, skip=skip, only=kind if kind in ("squad", "coco") else None, images=images)
