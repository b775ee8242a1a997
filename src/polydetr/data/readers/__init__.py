"""Rows from files, standard input, data frames and lists: one function, one kind of Record, constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypedDict

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
    images = reading.images
    access = FileAccess.named(Path() if images is None and _is_stream(source) else images, also=also)
    if images is not None and not Path(images).expanduser().is_dir():
        raise DataFileError(f"{str(images)!r} is no folder of images.", hint=f"Name another: {SAY_IMAGES}.")
    records = _Reader(reading, expected, report, access, labels, leaps).records(source)
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


_WITH_CLASS_NAMES: tuple[Format, ...] = ("csv", "tsv", "parquet", "jsonl", "json")
"""Formats of Hugging Face's tables, whose numbers may have names beside the file."""


class _Told(TypedDict):
    """What every reader that may reject rows is told."""

    report: ReadReport
    skip: bool


@dataclass(frozen=True)
class _Reader:
    """``read_records``, with the reader of the source's kind."""

    options: ReadOptions
    expected: ExpectedColumns
    report: ReadReport
    access: FileAccess
    labels: bool
    leaps: Leaps | None

    def records(self, source: Any) -> Iterator[Record]:
        """The rows of whatever can be read."""
        if frame_kind(source):
            return read_frame(source, **self._told)
        if isinstance(source, (str, Path)):
            return self._of_path(source)
        if isinstance(source, Mapping) or not isinstance(source, Iterable):
            raise SchemaError(
                f"cannot read rows from {type(source).__name__}.",
                hint="Expected a path, a list of rows ({field: value}), or a pandas, polars or pyarrow table.",
            )
        return read_rows(source, name=None, **self._told)

    @property
    def _told(self) -> _Told:
        return {"report": self.report, "skip": self.options.on_error == "skip"}

    def _of_path(self, source: str | Path) -> Iterator[Record]:
        """The rows of a file, a folder, or standard input."""
        options = self.options
        if str(source) != "-" and (inside := data_file_in(existing(source), options.format)):
            self.report.note("files that stand for their folder", f"{inside.name} is read", Location(str(source)))
            source = inside
        if str(source) != "-" and (folder := find_folder_format(existing(source), options.format, labels=self.labels)):
            if folder == "images":
                return read_image_folder(Path(source), report=self.report)
            if folder == "voc":
                return read_voc(Path(source), access=self.access, encoding=options.encoding, **self._told)
            return read_yolo(
                Path(source), access=self.access, split=options.split, encoding=options.encoding, **self._told
            )
        file = open_source(source, encoding=options.encoding, wanted=options.format)
        kind = find_format(file, options.format, asked=self.expected.texts is not None)
        if kind in ("csv", "tsv", "jsonl"):
            file = file.leaping(self.leaps)
        records = self._of_file(file, kind)
        if kind in _WITH_CLASS_NAMES and file.path is not None:
            names, said_by = names_beside(file.path)
            return records_with_class_names(records, names, said_by, self.report) if names else records
        return records

    def _of_file(self, file: Source, kind: Format) -> Iterator[Record]:
        """The rows of a file of this kind."""
        options, access = self.options, self.access
        delimiter, header, columns = options.delimiter, options.header, options.columns
        if kind == "boxes":
            return read_boxes_csv(
                file, delimiter=delimiter, header=header, columns=columns, access=access, **self._told
            )
        if kind in ("csv", "tsv"):
            delimiter = delimiter or ("\t" if kind == "tsv" else None)
            return read_delimited(
                file, delimiter=delimiter, header=header, columns=columns, expected=self.expected, **self._told
            )
        if idle := options.given().keys() & {"delimiter", "header", "columns"}:
            message = f"{', '.join(sorted(idle))}: of tables of text, but this is {kind}"
            self.report.note("ways to read that mean nothing here", message, Location(file.name))
        if kind == "parquet":
            return read_parquet(file, **self._told)
        if kind == "xlsx":
            return read_workbook(file, **self._told)
        if kind == "text":
            return read_plain_text(file, report=self.report, expected=self.expected)
        if kind == "conll":
            tags = name_of_tags(self.expected.targets)
            return read_columns(
                file, scheme=options.scheme, columns=columns, tags=tags, labels=self.labels, **self._told
            )
        if kind == "cvat":
            return read_cvat(file, access=access, **self._told)
        if kind == "jsonl":
            return read_jsonl(file, **self._told)
        only = kind if kind in ("squad", "coco", "labelstudio") else None
        return read_json(file, only=only, access=access, labels=self.labels, **self._told)
