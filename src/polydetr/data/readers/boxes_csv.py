"""A CSV of boxes: one row per object, the image's path in a column; the rows of an image may stand apart.

Corners (xmin, ymin, xmax, ymax, or x1..., left...) or a corner and a size (x, y, w, h, or all four in one cell, bbox),
in pixels, or as shares of the image where most boxes of the table can be no pixels. A row with a path and empty cells
is an image without boxes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from posixpath import normpath
from typing import Any

import numpy as np

from polydetr.core.access import IN_MEMORY, FileAccess
from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.boxes import ImageFinder, RawImage, RawObject, claimed_size, corners_of, records_of
from polydetr.data.readers.delimited import read_delimited, sample_rows, sniff_dialect
from polydetr.data.readers.source import Source
from polydetr.errors import Location, SchemaError, listed
from polydetr.values.boxes import are_shares, fit_shares, number
from polydetr.values.cells import is_empty
from polydetr.values.objects import is_crowd, turned

_IMAGE = ("image", "path", "image_path", "img_path", "filename", "file_name", "file", "image_name", "imageid",
          "image_id", "img", "filepath", "file_path")  # fmt: skip
_LABEL = ("label", "class", "class_name", "classname", "category", "category_name", "name", "labelname", "label_name",
          "cell_type", "type", "object")  # fmt: skip
_CORNERS = (("xmin", "ymin", "xmax", "ymax"), ("x_min", "y_min", "x_max", "y_max"), ("x1", "y1", "x2", "y2"),
            ("left", "top", "right", "bottom"))  # fmt: skip
_SIZES = (("x", "y", "w", "h"), ("left", "top", "w", "h"), ("bbox_x", "bbox_y", "bbox_width", "bbox_height"),
          ("x", "y", "width", "height"), ("left", "top", "width", "height"), ("bbox",))  # fmt: skip
_CROWD = ("crowd", "iscrowd", "isgroupof")
_HEADERLESS = ("path", "x1", "y1", "x2", "y2", "label")
"""The columns of a file without a header, as keras-retinanet has them."""


@dataclass(frozen=True, slots=True)
class BoxColumns:
    """Which column holds what. ``box``: four columns, or one with a list of four numbers; ``sized``: the last two
    numbers are a width and a height. ``turned``: "rotation" or "angle" → its column.
    """

    image: str
    label: str
    box: tuple[str, ...]
    sized: bool
    crowd: str | None = None
    size: tuple[str, str] | None = None
    turned: Mapping[str, str] = field(default_factory=dict)

    @property
    def used(self) -> set[str | None]:
        """All columns that are read."""
        return {self.image, self.label, *self.box, self.crowd, *(self.size or ()), *self.turned.values()}


def box_columns(names: Iterable[str]) -> BoxColumns | None:
    """The columns of a CSV of boxes, or None where it is another kind of table."""
    lowered = {n.strip().lower(): n for n in reversed(list(names))}
    for group, sized in [*((c, False) for c in _CORNERS), *((s, True) for s in _SIZES)]:
        image = next((lowered[n] for n in _IMAGE if n in lowered), None)
        label = next((lowered[n] for n in _LABEL if n in lowered), None)
        if image and label and all(n in lowered for n in group):
            crowd = next((lowered[n] for n in _CROWD if n in lowered), None)
            free = {"width", "height"} <= lowered.keys() - set(group)
            size = (lowered["width"], lowered["height"]) if free else None
            turned = {n: lowered[n] for n in ("rotation", "angle") if n in lowered}
            return BoxColumns(image, label, tuple(lowered[n] for n in group), sized, crowd, size, turned)
    return None


def lacks_label(names: Iterable[str]) -> BoxColumns | None:
    """The columns of a table that would be one of boxes, corners or a bbox, with a column "label"."""
    names = list(names)
    found = None if box_columns(names) else box_columns([*names, "label"])
    return found if found and (not found.sized or found.box[0].lower() == "bbox") else None


def read_boxes_csv(
    source: Source,
    *,
    report: ReadReport,
    skip: bool,
    delimiter: str | None = None,
    header: bool | None = None,
    columns: Sequence[str] | None = None,
    access: FileAccess = IN_MEMORY,
) -> Iterator[Record]:
    """One Record per image, in the order in which the images first appear; ``location`` is that first row.

    columns: their names; None: those of the header, or of ``_HEADERLESS`` where there is none. header: whether the
    first line is one; None: where it holds no box.

    Raises:
        SchemaError: no columns of boxes. RowError: a cell that is not a number, an object without a label, a missing
        image (``skip``: the image is rejected into ``report`` instead).
    """
    sample = source.head_lines()
    first = sample_rows(sample, sniff_dialect(sample, delimiter))[0]
    names = list(columns or first)
    if columns is None and box_columns(first) is None and len(first) == len(_HEADERLESS):
        names = list(_HEADERLESS)
    of_boxes = box_columns(names)
    if header is None:
        header = (
            of_boxes is None or len(first) != len(names) or not _is_box(dict(zip(names, first, strict=True)), of_boxes)
        )
    lines = ReadReport()  # its rows are objects
    rows = read_delimited(source, report=lines, skip=skip, delimiter=delimiter, header=header, columns=names)
    if of_boxes is None:
        raise SchemaError(
            f"is not a table of boxes; its columns are {listed(names)}.",
            location=Location(source.name),
            hint="Expected path, xmin, ymin, xmax, ymax, label (or x1..., left..., x, y, w, h).",
        )
    unread = [name for name in names if name not in of_boxes.used]
    if unread:
        report.note("columns that are not read", ", ".join(map(repr, unread[:12])), Location(source.name))
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
        path = str(record.row[columns.image]).strip()
        image = images.setdefault(normpath(path.replace("\\", "/")), RawImage(path, record.location))
        if image.fault or all(is_empty(record.row[c]) for c in columns.box):
            continue
        try:
            image.objects.append(_object(record.row, columns, record.location))
            image.size = image.size or _size(record.row, columns)
        except ValueError as error:
            image.fault, image.location = str(error), record.location
    report.note_all(lines, kind="line left out")
    _as_shares(list(images.values()), columns, name, report)
    if columns.sized and columns.box[-1].lower() in ("width", "height"):
        message = f"{', '.join(columns.box)} are read as left, top, width and height of the box"
        report.note("which columns are the box", message, Location(name))
    yield from records_of(images.values(), finder, report=report, skip=skip, source=name)


def _object(row: Mapping[str, Any], columns: BoxColumns, location: Location) -> RawObject:
    """One row's object. Raises ValueError."""
    values = []
    for column, cell in zip(columns.box, [row[c] for c in columns.box], strict=True):
        try:
            values += [number(cell)] if len(columns.box) > 1 else _four_numbers(cell)
        except ValueError as error:
            raise ValueError(f"column {column!r}: {error}") from None
    if columns.sized:
        values[2:] = [values[0] + values[2], values[1] + values[3]]
    label = "" if is_empty(row[columns.label]) else str(row[columns.label]).strip()
    if not label:
        raise ValueError(f"column {columns.label!r}: the box {values} has no label.")
    crowd = columns.crowd is not None and is_crowd(row[columns.crowd])
    around = turned(values, {name: row[column] for name, column in columns.turned.items()})
    return RawObject(around or values, label, crowd=crowd, location=location, turned=around is not None)


def _is_box(row: Mapping[str, Any], columns: BoxColumns) -> bool:
    """Whether a first line is an object or an image without one, not a header."""
    try:
        return all(is_empty(row[c]) for c in columns.box) or bool(_object(row, columns, Location()))
    except ValueError:
        return False


def _four_numbers(cell: str) -> list[float]:
    """[left, top, width, height] as one cell writes it. Raises ValueError."""
    parts = cell.strip().strip("[]()").replace(",", " ").split()
    if len(parts) != 4:
        raise ValueError(f"{cell!r:.60} is not [left, top, width, height].")
    return [number(part) for part in parts]


def _size(row: Mapping[str, Any], columns: BoxColumns) -> tuple[int, int] | None:
    """(width, height) of the image, where the row has them."""
    return None if columns.size is None else claimed_size(*(row[c] for c in columns.size))


def _as_shares(images: Sequence[RawImage], columns: BoxColumns, name: str, report: ReadReport) -> None:
    """Where the boxes of the table are shares of their images, all of them are read so, and one that cannot be is a
    fault of its image.
    """
    if not are_shares(corners_of(one for image in images for one in image.objects)):
        return
    for image in images:
        image.fractions = True
        near = fit_shares(corners_of(image.objects))
        odd = next((one for one, fits in zip(image.objects, near, strict=True) if not fits), None)
        if odd is not None and np.isfinite(odd.box).all():
            reason = f"the box {[round(v, 4) for v in odd.box]} is no share of its image, as most boxes here are."
            image.fault, image.location = reason, odd.location or image.location
    message = f"{', '.join(columns.box)} lie between 0 and 1: they are read as shares of the image"
    report.note("boxes as shares of the image", message, Location(name))
