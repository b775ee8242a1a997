"""A CSV of boxes: one row per object, the image's path in a column; the rows of an image may stand apart.

Corners (xmin, ymin, xmax, ymax, or x1..., left...) or a corner and a size (x, y, w, h), in pixels, or as shares of the
image where no number is above 1 and one is not whole. A row with a path and empty cells is an image without boxes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polydetr.core.access import IN_MEMORY, FileAccess
from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.boxes import ImageFinder, RawImage, RawObject, number, records_of
from polydetr.data.readers.delimited import read_delimited, sample_rows, sniff_dialect
from polydetr.data.readers.source import Source
from polydetr.errors import Location, SchemaError
from polydetr.values.cells import is_empty

_IMAGE = ("image", "path", "image_path", "img_path", "filename", "file_name", "file", "image_name", "imageid",
          "image_id", "img", "filepath", "file_path")  # fmt: skip
_LABEL = ("label", "class", "class_name", "classname", "category", "category_name", "name", "labelname", "label_name",
          "cell_type", "type", "object")  # fmt: skip
_CORNERS = (("xmin", "ymin", "xmax", "ymax"), ("x_min", "y_min", "x_max", "y_max"), ("x1", "y1", "x2", "y2"),
            ("left", "top", "right", "bottom"))  # fmt: skip
_SIZES = (("x", "y", "w", "h"), ("left", "top", "w", "h"), ("bbox_x", "bbox_y", "bbox_width", "bbox_height"))
_CROWD = ("crowd", "iscrowd", "isgroupof")
_HEADERLESS = ("path", "x1", "y1", "x2", "y2", "label")
"""The columns of a file without a header, as keras-retinanet has them."""


@dataclass(frozen=True, slots=True)
class BoxColumns:
    """Which column holds what. ``sized``: the last two of ``box`` are a width and a height."""

    image: str
    label: str
    box: tuple[str, ...]
    sized: bool
    crowd: str | None = None
    size: tuple[str, str] | None = None


def box_columns(names: Iterable[str]) -> BoxColumns | None:
    """The columns of a CSV of boxes, or None where it is another kind of table."""
    lowered = {n.strip().lower(): n for n in reversed(list(names))}
    for group, sized in [*((c, False) for c in _CORNERS), *((s, True) for s in _SIZES)]:
        image = next((lowered[n] for n in _IMAGE if n in lowered), None)
        label = next((lowered[n] for n in _LABEL if n in lowered), None)
        if image and label and all(n in lowered for n in group):
            crowd = next((lowered[n] for n in _CROWD if n in lowered), None)
            size = (lowered["width"], lowered["height"]) if {"width", "height"} <= lowered.keys() else None
            return BoxColumns(image, label, tuple(lowered[n] for n in group), sized, crowd, size)
    return None


def read_boxes_csv(
    source: Source,
    *,
    report: ReadReport,
    skip: bool,
    delimiter: str | None = None,
    columns: Sequence[str] | None = None,
    access: FileAccess = IN_MEMORY,
) -> Iterator[Record]:
    """One Record per image, in the order in which the images first appear; ``location`` is that first row.

    columns: their names; None: those of the header, or of ``_HEADERLESS`` where there is none.

    Raises:
        SchemaError: no columns of boxes. RowError: a cell that is not a number, an object without a label, a missing
        image (``skip``: the image is rejected into ``report`` instead).
    """
    sample = source.head_lines()
    first = sample_rows(sample, sniff_dialect(sample, delimiter))[0]
    names, header = list(columns or first), True
    if box_columns(first) is None and (columns or len(first) == len(_HEADERLESS)):
        names, header = list(columns or _HEADERLESS), False
    lines = ReadReport()  # its rows are objects
    rows = read_delimited(source, report=lines, skip=skip, delimiter=delimiter, header=header, columns=names)
    of_boxes = box_columns(names)
    if of_boxes is None:
        raise SchemaError(
            f"is not a table of boxes; its columns are {', '.join(map(repr, names[:12]))}.",
            location=Location(source.name),
            hint="Expected path, xmin, ymin, xmax, ymax, label (or x1..., left..., x, y, w, h).",
        )
    stem = source.path.stem if source.path else ""
    finder = ImageFinder.around(source.path, access, ("", "images", "JPEGImages", stem, f"images/{stem}"))
    return _read(rows, lines, of_boxes, source.name, finder, report, skip)


def _read(
    rows: Iterable[Record],
    lines: ReadReport,
    columns: BoxColumns,
    name: str,
    finder: ImageFinder,
    report: ReadReport,
    skip: bool,
) -> Iterator[Record]:
    images: dict[str, RawImage] = {}
    for record in rows:
        key = str(record.row[columns.image]).strip()
        image = images.setdefault(key, RawImage(key, record.location))
        if image.fault or all(is_empty(record.row[c]) for c in columns.box):
            continue
        try:
            image.objects.append(_object(record.row, columns, record.location))
            image.size = image.size or _size(record.row, columns)
        except ValueError as error:
            image.fault, image.location = str(error), record.location
    report.note_all(lines, kind="line left out")
    _as_shares(list(images.values()), columns, name, report)
    yield from records_of(images.values(), finder, report=report, skip=skip, source=name)


def _object(row: Mapping[str, Any], columns: BoxColumns, location: Location) -> RawObject:
    """One row's object. Raises ValueError."""
    values = []
    for column in columns.box:
        try:
            values.append(number(row[column]))
        except ValueError as error:
            raise ValueError(f"column {column!r}: {error}") from None
    if columns.sized:
        values[2:] = [values[0] + values[2], values[1] + values[3]]
    label = "" if is_empty(row[columns.label]) else str(row[columns.label]).strip()
    if not label:
        raise ValueError(f"column {columns.label!r}: the box {values} has no label.")
    crowd = columns.crowd is not None and str(row[columns.crowd]).strip().lower() in ("1", "true", "yes")
    return RawObject(values, label, crowd=crowd, location=location)


def _size(row: Mapping[str, Any], columns: BoxColumns) -> tuple[int, int] | None:
    """(width, height) of the image, where the row has them."""
    if columns.size is None or any(is_empty(row[c]) for c in columns.size):
        return None
    width, height = (int(number(row[c])) for c in columns.size)
    return (width, height) if width > 0 and height > 0 else None


def _as_shares(images: Sequence[RawImage], columns: BoxColumns, name: str, report: ReadReport) -> None:
    values = [v for image in images for o in image.objects for v in o.box if math.isfinite(v)]
    if values and max(values) <= 1.0 and any(v not in (0.0, 1.0) for v in values):
        for image in images:
            image.fractions = True
        message = f"no number in {', '.join(columns.box)} is above 1: they are read as shares of the image"
        report.note("boxes as shares of the image", message, Location(name))
