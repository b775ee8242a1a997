"""What all formats of boxes share: finding the image, checking its size, repairing its boxes, one Record per image.

A row is ``{"image": absolute path, "objects": [{"box": [left, top, right, bottom] in pixels, "label": name}],
"image_id", "width", "height"}``; an object may also have "area", "crowd" (True: a region of many, which a detection
may meet without being right or wrong) and "inside" (``values.objects.mostly_outside``).
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from polydetr.core.access import IN_MEMORY, FileAccess
from polydetr.core.reading import SAY_IMAGES
from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.source import reject
from polydetr.errors import DataFileError, Location, RowError, quoted
from polydetr.values.boxes import number, repair_box
from polydetr.values.cells import is_empty
from polydetr.values.decoding import shown_size
from polydetr.values.files import spellings
from polydetr.values.objects import mostly_outside

TURNED = "turned boxes (the box around each is taken)"
TWICE = "image listed twice (both are read)"
"""Kinds of problems, as a ReadReport counts them."""
_LONGEST_SIDE = 10**6


@dataclass(slots=True)
class RawObject:
    """One annotation as the file has it: ``box`` is left, top, right, bottom in pixels. turned: it was drawn turned,
    and ``box`` is the one around it.
    """

    box: Sequence[float]
    label: str
    crowd: bool = False
    area: float | None = None
    location: Location | None = None
    turned: bool = False


@dataclass(slots=True)
class RawImage:
    """One image with its annotations. ``size``: (width, height) as the file claims it. ``fault``: why it is unusable.

    fractions: the boxes are given in shares of the image's width and height. labeled: False where nobody has drawn its
    boxes, so that its row has no objects (which is not "there is nothing"), and no size that they are measured by.
    columns: what else its row holds.
    """

    name: str
    location: Location
    objects: list[RawObject] = field(default_factory=list)
    image_id: Any = None
    size: tuple[int, int] | None = None
    fractions: bool = False
    fault: str = ""
    labeled: bool = True
    columns: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Any:
        """What names the image in its data set."""
        return self.name if self.image_id is None else self.image_id


@dataclass
class ImageFinder:
    """Finds the images of an annotation file by their names: in the first of ``folders`` that has one. ``access``: what
    may be reached; no name climbs out of these folders.
    """

    folders: Sequence[Path]
    access: FileAccess = IN_MEMORY
    hint: str = f"Name the folder of the images: {SAY_IMAGES}."

    @staticmethod
    def of(access: FileAccess, folders: Iterable[Path]) -> ImageFinder:
        """Looks into the folder that the user named, if there is one; else into ``folders``, which the format has."""
        if access.root is not None:
            return ImageFinder([access.root], access)
        return ImageFinder([*(list(folders) or [Path()]), *([access.also] if access.also else [])], access)

    @staticmethod
    def around(path: Path | None, access: FileAccess, names: Iterable[str]) -> ImageFinder:
        """``of``, where the format has the folders ``names`` beside the annotation file ``path`` and one folder further
        up.
        """
        roots = (path.parent, path.parent.parent) if path else ()
        return ImageFinder.of(access, [root / name for name in names for root in roots])

    def find(self, name: str) -> Path | None:
        """The image's path. A name with folders is also tried without them, for files that were moved; one without an
        image's suffix with each of them.
        """
        for spelled in spellings(name):
            if os.path.isabs(spelled) and (path := self._reached(Path(), spelled)) is not None:
                return path
            for candidate in dict.fromkeys((spelled.lstrip("/"), spelled.rpartition("/")[2])):
                for folder in self.folders:
                    if candidate and (path := self._reached(folder, candidate)) is not None:
                        return path
        return None

    def _reached(self, folder: Path, name: str) -> Path | None:
        """The image of this name, if it is there and may be opened."""
        path: Path | None = folder / name
        if self.access.root is not None or ".." in name:
            path = FileAccess(folder, self.access.root).path(folder, name)
        return path if path is not None and is_file(path) else None

    def searched(self) -> str:
        """For messages: the folders that were looked into, six at most."""
        shown = list(dict.fromkeys(str(f) for f in self.folders if f.is_dir()))[:6]
        return f"looked in {', '.join(map(repr, shown))}" if shown else "there is no folder to look in"


_Served = dict[str, tuple[str, Location]]
"""An image's file → name and place of the first entry that it belongs to."""


def is_file(path: Path) -> bool:
    """Whether a file is there; False also for a name that no file can have."""
    try:
        return path.is_file()
    except OSError:
        return False


def records_of(
    images: Iterable[RawImage], finder: ImageFinder, *, report: ReadReport, skip: bool, source: str
) -> Iterator[Record]:
    """One Record per image, in order, repaired and checked.

    Raises:
        RowError: an image that is missing, unreadable, of another size than its boxes were drawn on, or the image of
        an earlier entry; a box that is not numbers (``skip``: rejected into ``report`` instead). DataFileError: not one
        image was found.
    """
    found = missing = 0
    served: _Served = {}
    for image in images:
        about = {"image": image.name, "image_id": image.key}
        try:
            if image.fault:
                raise RowError(image.fault)
            path = finder.find(image.name)
            if path is None:
                missing += 1
                reason = f"the image {quoted(image.name)} is not there ({finder.searched()})."
                raise RowError(reason, hint=finder.hint)
            found += 1
            record = _record(image, path, served, report)
        except BaseException as error:
            reject(error, image.location, report, skip=skip, about=about)
            continue
        report.rows += 1
        yield record
    if missing and not found:
        raise DataFileError(
            f"none of its {missing} images was found; {finder.searched()}.",
            location=Location(source),
            hint=finder.hint,
        )


def _record(image: RawImage, path: Path, served: _Served, report: ReadReport) -> Record:
    """The record of one image. Raises RowError where the image is unusable; nothing is reported then."""
    width, height = size = checked_size(path, image.size)
    file = str(path.absolute())
    name, location = served.setdefault(file, (image.name, image.location))
    if image.labeled and name != image.name and _plain(name) != _plain(image.name):
        raise RowError(
            f"the image {image.name!r:.120} is the file {file!r}, which is that of {name!r:.120} ({location}) "
            "already: the boxes of one of the two belong to another image (unpack the images with their folders)."
        )
    objects: list[dict[str, Any]] = []
    problems: list[tuple[str, str, Location]] = []  # reported once the whole image is known to be usable
    if location != image.location:
        problems.append(
            (
                TWICE,
                f"{image.name!r:.120} is listed in {location} already; each entry keeps its own objects",
                image.location,
            )
        )
    for raw in image.objects:
        box = raw.box
        if image.fractions:
            box = (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
        repaired, messages = repair_box(box, size)
        problems += [(kind, f"{raw.label}: {message}", raw.location or image.location) for kind, message in messages]
        if raw.turned:
            message = f"{raw.label}: its box is turned; {box} is around it"
            problems.append((TURNED, message, raw.location or image.location))
        if repaired is not None:
            extra: dict[str, Any] = {"crowd": True} if raw.crowd else {}
            if messages:
                extra |= mostly_outside(box, repaired)
            if raw.area is not None:
                extra["area"] = raw.area
            objects.append({"box": list(repaired), "label": raw.label, **extra})
    if len(objects) > 1:
        problems += _repeated(objects, image.location)
    for kind, message, location in problems:
        report.note(kind, message, location)
    row = {"image": file, **image.columns, "image_id": image.key}
    if image.labeled:
        row = {"image": file, "objects": objects, **row, "width": width, "height": height}
    return Record(row, image.location)


def _plain(name: str) -> str:
    """The same for all spellings of one path: two annotators may both list an image."""
    return posixpath.normpath(name.replace("\\", "/"))


def _repeated(objects: Sequence[Mapping[str, Any]], location: Location) -> Iterator[tuple[str, str, Location]]:
    """A problem for each object whose box and label another one has; both are kept."""
    earlier: set[tuple[Any, ...]] = set()
    for one in objects:
        key = (*one["box"], one["label"])
        if key in earlier:
            yield "same box twice (kept)", f"{one['label']}: the box {one['box']} is annotated twice", location
        earlier.add(key)


def checked_size(path: Path, claimed: tuple[int, int] | None) -> tuple[int, int]:
    """(width, height) from the image's header, as it is shown (turned by its EXIF orientation).

    Raises:
        RowError: no image, or not of the ``claimed`` size: its boxes would lie elsewhere.
    """
    shown, turned = shown_size(path)
    if claimed and claimed != shown:
        how = " (turned by its EXIF orientation)" if turned else ""
        raise RowError(
            f"the image {path.name!r:.120} is {shown[0]}×{shown[1]}{how}, but its boxes were drawn on "
            f"{claimed[0]}×{claimed[1]} (leave width and height out where they are those of something else)."
        )
    return shown


def claimed_size(width: Any, height: Any) -> tuple[int, int] | None:
    """(width, height) of an image as its annotations say it; None where they do not, or say 0×0 as some tools do.

    Raises:
        ValueError: they are no numbers of pixels.
    """
    if type(width) is type(height) is int and 0 < width < _LONGEST_SIDE and 0 < height < _LONGEST_SIDE:
        return width, height
    if is_empty(width) or is_empty(height):
        return None
    sides = number(width), number(height)
    if not all(0 <= side < _LONGEST_SIDE for side in sides):  # also where one is not a number
        raise ValueError(f"the size is {width!r:.40}×{height!r:.40}, expected numbers of pixels.")
    return (int(sides[0]), int(sides[1])) if all(sides) else None


def corners_of(objects: Iterable[RawObject]) -> np.ndarray:
    """float64 (N, 4)."""
    return np.array([one.box for one in objects], dtype=np.float64).reshape(-1, 4)
