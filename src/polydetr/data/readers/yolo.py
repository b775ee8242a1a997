"""YOLO folders: one text file per image, one line per object: class number, center x, center y, width, height, all
four as shares of the image. Longer lines are outlines (class, x, y, x, y, ...), whose surrounding box is taken.

Read from data.yaml (its ``train`` part, or ``split=``), from the folder that holds it, or from one folder of images
(images/val), whose labels lie in labels/val. An image without a label file shows nothing, as YOLO has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.boxes import (
    IMAGE_SUFFIXES,
    ImageFinder,
    RawImage,
    RawObject,
    image_files,
    is_file,
    records_of,
)
from polydetr.data.readers.source import read_text, refuse
from polydetr.data.readers.yolo_lines import ClassNames, box_of, doubt_of
from polydetr.data.readers.yolo_names import (
    SPLITS,
    class_names,
    describes_data,
    key_points,
    load_description,
    names_near,
    own_description,
)
from polydetr.errors import DataFileError, Location, SchemaError, did_you_mean, row_fault


@dataclass(frozen=True)
class YoloSet:
    """``files``: each image with its label file. ``keypoints``: how many numbers follow each box, None where nothing
    says so.
    """

    files: tuple[tuple[Path, Path], ...]
    classes: ClassNames
    keypoints: int | None = None
    encoding: str | None = None

    @cached_property
    def doubt(self) -> str:
        """Why long lines are no outlines, "" where they can be; reads all label files."""
        return doubt_of(cells for _, labels in self.files if is_file(labels) for cells in self._cells(labels))

    def _cells(self, labels: Path) -> Iterator[list[str]]:
        with suppress(DataFileError):  # told with its image
            yield from map(str.split, read_text(labels, self.encoding).splitlines())


def is_yolo(path: Path) -> bool:
    """True for a file that describes a data set, a folder with one, or a folder of images with labels beside it."""
    if path.suffix in (".yaml", ".yml", ".data") and path.is_file():
        return describes_data(path)
    if not path.is_dir():
        return False
    return describes_data(path) or (_holds_images(path) and any(f.is_file() for _, f in _below(path)))


def read_yolo(
    path: Path,
    *,
    report: ReadReport,
    skip: bool,
    images: str | Path | None = None,
    split: str | None = None,
    encoding: str | None = None,
) -> Iterator[Record]:
    """One Record per image, in the order of their names. encoding: of the text files, where they are not UTF-8.

    Raises:
        DataFileError: no images, a list of images or of names in another encoding. SchemaError: no such split.
        RowError: an unknown class number, a line that is not numbers or may be something else than a box or an
        outline, labels without an image (``skip``: rejected into ``report`` instead).
    """
    data = _find(path, split, report, encoding)
    if images is not None:
        data = replace(data, files=tuple(_listed(Path(images))))
    if not data.files:
        raise DataFileError("holds no images.", location=Location(str(path)), hint="Expected images/ and labels/.")
    if not any(is_file(labels) for _, labels in data.files):
        image, labels = data.files[0]
        raise DataFileError(
            f"holds {len(data.files)} images and no label file.",
            location=Location(str(path)),
            hint=f"Expected {str(labels)!r} for {image.name!r}, and so on.",
        )
    if not data.classes.names:
        report.note("class numbers as names", "no data.yaml or classes.txt names the classes", Location(str(path)))
    _note_shared_labels(data.files, report)
    _refuse_lone_labels(data.files, report, skip)
    raw = (_read_image(image, labels, data, report) for image, labels in data.files)
    return records_of(raw, ImageFinder([]), report=report, skip=skip, source=str(path))


def _listed(folder: Path, *, real: Path | None = None) -> list[tuple[Path, Path]]:
    """The images of ``folder`` (which lie in ``real``) with their label files."""
    labels = _labels_of(folder)
    return [(image, labels / f"{image.stem}.txt") for image in image_files(real or folder)]


def _find(path: Path, split: str | None, report: ReadReport, encoding: str | None) -> YoloSet:
    """The part ``split`` of a data.yaml (None: its first), or the images of a folder. Raises SchemaError."""
    own = path if path.is_file() else own_description(path, encoding)
    if own is None:
        folder = path / "images" if (path / "images").is_dir() else path
        classes, keypoints = names_near(folder, _labels_of(folder), encoding)
        return YoloSet(tuple(_below(path)), classes, keypoints, encoding)
    content = load_description(own, encoding)
    parts = [s for s in SPLITS if content.get(s)]
    chosen = split or (parts[0] if parts else "train")
    if chosen not in parts:
        raise SchemaError(
            f"{own.name} has no part {chosen!r}.", location=Location(str(own)), hint=did_you_mean(chosen, parts)
        )
    if split is None and len(parts) > 1:
        others = ", ".join(repr(p) for p in parts if p != chosen)
        report.note("one part read", f"{chosen!r} is read; name the folder of {others} to read it", Location(str(own)))
    entries = content[chosen] if isinstance(content[chosen], list) else [content[chosen]]
    files = [pair for entry in entries for pair in _files_of(own, content, str(entry), encoding)]
    return YoloSet(tuple(files), class_names(content["names"], own, encoding), key_points(content, own), encoding)


def _below(path: Path) -> list[tuple[Path, Path]]:
    """The images of a folder, of its images/, or of the parts in that, with their label files."""
    folder = path / "images" if (path / "images").is_dir() and not image_files(path) else path
    return _listed(folder) or [pair for f in sorted(folder.iterdir()) if f.is_dir() for pair in _listed(f)]


def _files_of(own: Path, content: Mapping[str, Any], entry: str, encoding: str | None) -> list[tuple[Path, Path]]:
    """The images of one entry, a folder or a text file that lists them, with their label files.

    Exported YAML files often hold "../train/images" where "train/images" is meant, and obj.data "data/train.txt".
    """
    root, entry = own.parent / str(content.get("path") or ""), entry.replace("\\", "/")
    for base in (root, own.parent):
        for relative in (entry, entry.removeprefix("../"), entry.removeprefix("data/")):
            place = base / relative
            with suppress(OSError):  # a name that no file can have
                if (place / "images").is_dir():
                    return _listed(place / "images")
                if (real := _through_link(place)).is_dir():
                    return _listed(place, real=real)
            if is_file(place):
                names = [line.strip().replace("\\", "/") for line in read_text(place, encoding).splitlines()]
                listed = [_listed_image(base, name) for name in names if name]
                return [(image, _labels_of(image.parent) / f"{image.stem}.txt") for image in listed]
    raise DataFileError(
        f"names {entry!r:.200}, which is not there.",
        location=Location(str(own)),
        hint=f"Looked for {str(root / entry)!r:.300}; correct the path in the file.",
    )


def _listed_image(base: Path, name: str) -> Path:
    """The image of a line in a list; darknet's begin with the folder "data", in which the list is expected to lie."""
    inside = base / name.removeprefix("data/")
    return inside if is_file(inside) else base / name


def _through_link(path: Path) -> Path:
    """Follows "images" where an archive tool wrote the link out as a text file with its target in it."""
    for parent in path.parents:
        if parent.is_file() and parent.stat().st_size < 256:
            target = parent.parent / parent.read_text(encoding="utf-8", errors="replace").strip()
            return target / path.relative_to(parent)
    return path


def _read_image(image: Path, labels: Path, data: YoloSet, report: ReadReport) -> RawImage:
    location = Location(str(labels))
    raw = RawImage(str(image.absolute()), location, image_id=image.stem, fractions=True)
    if not is_file(labels):
        report.note("image without a label file (read as empty)", f"{image.name} has none", Location(str(image)))
        return raw
    where = location
    try:
        for line, text in enumerate(read_text(labels, data.encoding).splitlines(), 1):
            if text.strip():
                where = Location(str(labels), line=line)
                raw.objects.append(_object(text.split(), data, where, report))
    except DataFileError as error:
        raw.fault = f"{error.message} {error.hint or ''}".rstrip()
    except ValueError as error:
        raw.fault, raw.location = str(error), where
    except Exception as error:
        raw.fault, raw.location = row_fault(error, where).message, where
    return raw


def _object(cells: list[str], data: YoloSet, location: Location, report: ReadReport) -> RawObject:
    """The object of one line, its box as left, top, right, bottom in shares of the image. Raises ValueError."""
    if len(cells) > 6 and data.keypoints is None and data.doubt:
        raise ValueError(data.doubt)
    box, is_outline = box_of(cells, data.keypoints)
    label = data.classes.label(cells[0])
    if is_outline:
        report.note("outlines (the box around each is taken)", f"{label}: {len(cells) // 2} corners", location)
    return RawObject(box, label, location=location)


def _note_shared_labels(files: Sequence[tuple[Path, Path]], report: ReadReport) -> None:
    """Images of one name that differ in their suffixes have one label file, which cannot be right for both."""
    first: dict[Path, Path] = {}
    for image, labels in files:
        if first.setdefault(labels, image) != image:
            message = f"{labels.name} is read for {first[labels].name} and for {image.name}"
            report.note("one label file for two images", message, Location(str(labels)))


def _refuse_lone_labels(files: Sequence[tuple[Path, Path]], report: ReadReport, skip: bool) -> None:
    """A label file without an image is a lost image, unless a part that is not read has it in the same folders."""
    known = {labels for _, labels in files}
    places = {labels.parent: image.parent for image, labels in files}
    for folder, images in places.items():
        for file in sorted(folder.glob("*.txt")):
            there = folder != images and any(p.suffix in IMAGE_SUFFIXES for p in images.glob(f"{file.stem}.*"))
            if file not in known and file.name != "classes.txt" and not there:
                refuse("has labels, but there is no image of that name.", Location(str(file)), report, skip=skip)


def _labels_of(folder: Path) -> Path:
    """labels/... for images/... (the last folder of that name counts), else labels/ inside, else the folder itself."""
    parts = list(folder.parts)
    for place in reversed(range(len(parts))):
        if parts[place] == "images":
            parts[place] = "labels"
            return Path(*parts)
    inside = folder / "labels"
    return inside if inside.is_dir() else folder


def _holds_images(path: Path) -> bool:
    return path.is_dir() and bool(image_files(path) or ((path / "images").is_dir() and (path / "labels").is_dir()))
