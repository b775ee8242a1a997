"""CVAT's own XML, version 1.1 (https://docs.cvat.ai/docs/manual/advanced/xml_format/), element by element.

"CVAT for images": a row per image: ``objects`` (boxes; around polygons, ellipses and masks the box), ``label`` (its
tags). "CVAT for video": a row per frame that has a box; the frames are images called frame_000000 and so on, as CVAT
saves them. Attributes are not read.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from xml.etree import ElementTree

from polydetr.core.access import IN_MEMORY, FileAccess
from polydetr.core.reading import SAY_IMAGES
from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.boxes import ImageFinder, RawImage, RawObject, claimed_size, records_of
from polydetr.data.readers.outlines import Box, around_points
from polydetr.data.readers.source import Source
from polydetr.errors import DataFileError, Location, quoted, row_fault
from polydetr.values.boxes import around_turned, number

_SHAPES = ("box", "polygon", "ellipse", "mask")
_NO_BOXES = ("polyline", "points", "cuboid", "skeleton")
NO_BOXES = "shapes that are no boxes (left out)"
NO_BOX = "frames without a box (not read)"
"""Kinds of problems, as a ReadReport counts them."""
_FRAME_HINT = (
    "Export the task with its images (Save images), or write the film's frames as images: ffmpeg -i FILM "
    f"-start_number 0 images/frame_%06d.png. Their folder is named by {SAY_IMAGES}."
)


def is_cvat(text: str) -> bool:
    """Whether the start of an XML file is CVAT's: its root is called "annotations"."""
    return "<annotations" in text


def read_cvat(source: Source, *, report: ReadReport, skip: bool, access: FileAccess = IN_MEMORY) -> Iterator[Record]:
    """One Record per image; of a film, per frame with a box.

    Raises:
        DataFileError: not CVAT's XML, no images in it, or not one of them found. RowError: a shape without a label or
        without numbers, an image that is missing (``skip``: rejected into ``report``).
    """
    location = Location(source.name)
    task = _read(source, report)
    if not task.images and not task.frames:
        raise DataFileError("is CVAT's XML without an image and without a track.", location=location)
    finder = ImageFinder.around(source.path, access, ("images", ""))
    if task.frames:
        finder = replace(finder, hint=_FRAME_HINT)
    images = [*task.images, *_frames(task, location, report)]
    _add_labels(images, task)
    return records_of(images, finder, report=report, skip=skip, source=source.name)


@dataclass
class _Task:
    """What a file holds. tags: by the number of the image. with_shapes: whether anything is drawn at all. size: of the
    frames of a film; seen: the frames of its tracks, in which nothing may be left.
    """

    images: list[RawImage] = field(default_factory=list)
    tags: list[list[str]] = field(default_factory=list)
    frames: dict[int, list[RawObject]] = field(default_factory=lambda: defaultdict(list))
    faults: dict[int, str] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)
    size: tuple[int, int] | None = None
    with_shapes: bool = False


def _read(source: Source, report: ReadReport) -> _Task:
    """Raises DataFileError."""
    location, task = Location(source.name), _Task()
    parser = ElementTree.XMLPullParser(["start", "end"])
    depth = 0
    try:
        for line in source.lines():
            if "<!DOCTYPE" in line or "<!ENTITY" in line:  # entities can be nested to fill the memory
                raise DataFileError("declares entities, which no file of CVAT needs.", location=location)
            parser.feed(line)
            depth = _take(parser, depth, task, location, report)
        parser.close()
    except ElementTree.ParseError as error:
        raise DataFileError(f"is not XML: {error}.", location=location) from None
    return task


def _take(parser: Any, depth: int, task: _Task, location: Location, report: ReadReport) -> int:
    """What has been parsed since, into the task; elements that were taken are emptied. Returns the depth."""
    for event, element in parser.read_events():
        if event == "start":
            if depth == 0 and element.tag != "annotations":
                raise DataFileError(
                    f"is <{quoted(element.tag, 60)}>, expected CVAT's <annotations>.",
                    location=location,
                    hint="Of Pascal VOC, which has a file per image, name the folder."
                    if element.tag == "annotation"
                    else None,
                )
            depth += 1
            continue
        depth -= 1
        if depth == 1:
            if element.tag == "image":
                _take_image(element, task, location, report)
            elif element.tag == "track":
                _take_track(element, task, location, report)
            elif element.tag == "meta":
                task.size = _film_size(element)
            element.clear()
    return depth


def _film_size(meta: Any) -> tuple[int, int] | None:
    size = meta.find(".//original_size")
    try:
        return None if size is None else claimed_size(size.findtext("width"), size.findtext("height"))
    except ValueError:
        return None


def _take_image(element: Any, task: _Task, location: Location, report: ReadReport) -> None:
    where = Location(location.file, row=len(task.images) + 1)
    name = element.get("name", "")
    image = RawImage(name, where, image_id=element.get("id"))
    tags: list[str] = []
    try:
        if not name.strip():
            raise ValueError("an image has no name.")
        image.size = claimed_size(element.get("width"), element.get("height"))
        for place, shape in enumerate(element, 1):
            if shape.tag == "tag":
                tags.append(_label(shape.attrib, place))
            else:
                image.objects += _objects(shape, shape.attrib, place, where, report)
    except ValueError as error:
        image.fault = f"the image {quoted(name)}: {error}"
    except Exception as error:
        image.fault = row_fault(error, where).message
    task.with_shapes |= any(shape.tag in _SHAPES for shape in element)
    task.images.append(image)
    task.tags.append(tags)


def _take_track(element: Any, task: _Task, location: Location, report: ReadReport) -> None:
    """The boxes of one object by frame; "outside": it is out of sight there."""
    for place, shape in enumerate(element, 1):
        frame = -1
        try:
            frame = int(number(shape.get("frame")))
            task.seen.add(frame)
            if shape.get("outside") == "1":
                continue
            attributes = {"label": element.get("label"), **shape.attrib}
            task.frames[frame] += _objects(shape, attributes, place, Location(location.file), report)
        except (ValueError, OverflowError) as error:
            task.faults[frame] = f"track {element.get('id')!r:.40}: {error}"
            task.frames[frame] = task.frames.get(frame, [])


def _objects(
    shape: Any, attributes: Mapping[str, str], place: int, where: Location, report: ReadReport
) -> list[RawObject]:
    """The object of one shape; none for a shape that is no box, which is told. Raises ValueError."""
    if shape.tag not in _SHAPES:
        if shape.tag in _NO_BOXES:
            report.note(NO_BOXES, f"{shape.tag} ({attributes.get('label')!r:.40})", where)
        return []
    label = _label(attributes, place)
    try:
        box, is_turned = _box(shape.tag, attributes)
    except ValueError as error:
        raise ValueError(f"{shape.tag} {place} ({label:.60}): {error}") from None
    return [RawObject(box, label, location=where, turned=is_turned)]


def _label(attributes: Mapping[str, Any], place: int) -> str:
    label = str(attributes.get("label") or "").strip()
    if not label:
        raise ValueError(f"shape {place} has no label.")
    return label


def _box(kind: str, attributes: Mapping[str, str]) -> tuple[Box, bool]:
    """Left, top, right, bottom, and whether the shape was turned (clockwise, in degrees, about its center). Raises
    ValueError.
    """
    if kind == "polygon":
        points = [part.split(",") for part in attributes.get("points", "").split(";")]
        if not all(len(point) == 2 for point in points):
            raise ValueError(f"the points {attributes.get('points')!r:.60} are no x,y;x,y;...")
        return around_points([number(side) for point in points for side in point]), False
    names = {"box": ("xtl", "ytl", "xbr", "ybr"), "ellipse": ("cx", "cy", "rx", "ry")}.get(
        kind, ("left", "top", "width", "height")
    )
    a, b, c, d = (_number(attributes, name) for name in names)
    if kind == "mask":
        return (a, b, a + c, b + d), False
    degrees = number(attributes.get("rotation") or 0)
    if not math.isfinite(degrees):
        raise ValueError(f"the rotation is {degrees!r}, expected degrees.")
    if kind == "ellipse":
        sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
        right, bottom = math.hypot(c * cosine, d * sine), math.hypot(c * sine, d * cosine)
        return (a - right, b - bottom, a + right, b + bottom), bool(degrees % 180)
    return ((a, b, c, d), False) if not degrees % 180 else (around_turned((a, b, c, d), degrees), True)


def _number(attributes: Mapping[str, str], name: str) -> float:
    if name not in attributes:
        raise ValueError(f"it has no {name}.")
    return number(attributes[name])


def _frames(task: _Task, location: Location, report: ReadReport) -> Iterator[RawImage]:
    """The frames of a film that have a box, in order. In the others something may be that nobody has looked for."""
    for row, frame in enumerate(sorted(task.frames), 1):
        name = f"frame_{frame:06d}"
        yield RawImage(
            name,
            Location(location.file, row=row),
            task.frames[frame],
            frame,
            task.size,
            fault=task.faults.get(frame, ""),
        )
    for frame in sorted(task.seen - task.frames.keys()):
        report.note(NO_BOX, f"frame {frame}", location)


def _add_labels(images: list[RawImage], task: _Task) -> None:
    """Tags become the column "label": one per image, or a list where an image has several."""
    several = any(len(tags) > 1 for tags in task.tags)
    if not any(task.tags):
        return
    for image, tags in zip(images, task.tags, strict=False):
        image.labeled = task.with_shapes
        if tags:
            image.columns = {"label": tags if several else tags[0]}
