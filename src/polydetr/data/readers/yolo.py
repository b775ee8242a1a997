"""YOLO folders: one text file per image, one line per object: class number, center x, center y, width, height, all
four as shares of the image. Longer lines are outlines (class, x, y, x, y, ...), whose surrounding box is taken.

Read from data.yaml (its ``train`` part, or ``split=``), from the folder that holds it, or from one folder of images
(images/val), whose labels lie in labels/val; images in folders below have theirs in the folders of the same names. An
image without a label file shows nothing, as YOLO has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from glob import escape
from pathlib import Path
from typing import Any

from polydetr.core.access import IN_MEMORY, FileAccess
from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.boxes import ImageFinder, RawImage, RawObject, is_file, records_of
from polydetr.data.readers.folders import files_below, image_files, names_apart, note_others, parts_among
from polydetr.data.readers.source import leave_out, read_text
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
from polydetr.errors import DataFileError, Location, RowError, SchemaError, nearest, row_fault
from polydetr.values.files import find_file, is_image_name

TRAIN_PARTS, VALID_PARTS, TEST_PARTS = ("train",), ("val",), ("test", "val")
"""The parts of a data.yaml that may be learned from, chosen by, and measured on, the better ones first."""
_OF_LABELS = frozenset({".txt", ".yaml", ".yml", ".json", ".xml", ".cache", ".data", ".names", ".labels"})
"""Suffixes of what lies beside images and is none."""
_LABEL_FILES = "*.[tT][xX][tT]"


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
    return describes_data(path) or _has_labels(path)


def _has_labels(folder: Path) -> bool:
    """Whether an image in the folder, or below, has a label file; below, texts beside the images are something else."""
    of_folder: dict[Path, Path | None] = {}
    for image in files_below(folder):
        if is_image_name(image.name):
            if image.parent not in of_folder:
                labels = _labels_of(image.parent)
                counts = labels.is_dir() and (image.parent == folder or labels != image.parent)
                of_folder[image.parent] = labels if counts and any(labels.glob(_LABEL_FILES)) else None
            labels = of_folder[image.parent]
            if labels is not None and is_file(_label_file(labels, image.stem)):
                return True
    return False


def read_yolo(
    path: Path,
    *,
    report: ReadReport,
    skip: bool,
    access: FileAccess = IN_MEMORY,
    split: str | Sequence[str] | None = None,
    encoding: str | None = None,
) -> Iterator[Record]:
    """One Record per image, in the order of their names. encoding: of the text files, where they are not UTF-8.

    access: names the folder of the images, if they lie elsewhere. split: the part of a data.yaml, or several, of which
    the first that it has is read.

    Raises:
        DataFileError: no images, a list of images or of names in another encoding. SchemaError: no such split.
        RowError: an unknown class number, a line that is not numbers or may be something else than a box or an
        outline, labels without an image (``skip``: rejected into ``report`` instead).
    """
    data = _find(path, split, access, report, skip=skip, encoding=encoding)
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
    _note_others(data.files, report)
    names = names_apart([image for image, _ in data.files])
    raw = (_read_image(*files, name, data, report) for files, name in zip(data.files, names, strict=True))
    return records_of(raw, ImageFinder([], access), report=report, skip=skip, source=str(path))


def _listed(folder: Path, *, real: Path | None = None) -> list[tuple[Path, Path]]:
    """The images of ``folder`` (which lie in ``real``) and below with their label files."""
    pairs = []
    for image in image_files(real or folder):
        inside = image.relative_to(real or folder)
        beside, below = (
            _label_file(of, image.stem)
            for of in (_labels_of((folder / inside).parent), (_labels_of(folder) / inside).parent)
        )
        pairs.append((image, below if below.is_file() else beside))
    return pairs


def _find(
    path: Path,
    split: str | Sequence[str] | None,
    access: FileAccess,
    report: ReadReport,
    *,
    skip: bool,
    encoding: str | None,
) -> YoloSet:
    """The part ``split`` of a data.yaml (None: its first), or the images of a folder. Raises SchemaError."""
    own = path if path.is_file() else own_description(path, encoding)
    if own is None:
        folder = path / "images" if (path / "images").is_dir() else path
        classes, keypoints = names_near(folder, _labels_of(folder), encoding)
        pairs = _below(path) if access.root is None else _listed(access.root)
        if parts := parts_among(list({part for image, _ in pairs for part in _folders_between(image, path)})):
            shown = ", ".join(map(repr, parts))
            report.note("parts read together", f"{shown}; name the folder of one to read it alone", Location(str(path)))
        return YoloSet(tuple(pairs), classes, keypoints, encoding)
    content = load_description(own, encoding)
    parts = [s for s in SPLITS if content.get(s)]
    wanted = [split] if isinstance(split, str) else list(split or SPLITS)
    chosen = next((part for part in wanted if part in parts), None)
    if chosen is None:
        raise SchemaError(
            f"{own.name} has no part {' or '.join(map(repr, wanted))}; it has {', '.join(map(repr, parts)) or 'none'}.",
            location=Location(str(own)),
            hint=nearest(wanted[0], parts) or "Name the folder of the images in place of the file.",
        )
    if len(parts) > 1:
        others = ", ".join(repr(p) for p in parts if p != chosen)
        report.note(f"part {chosen!r} read", f"name the folder of {others} to read that instead", Location(str(own)))
    entries = content[chosen] if isinstance(content[chosen], list) else [content[chosen]]
    files = [
        pair
        for entry in entries
        for pair in _files_of(own, content, str(entry), access, report, skip=skip, encoding=encoding)
    ]
    return YoloSet(tuple(files), class_names(content["names"], own, encoding), key_points(content, own), encoding)


def _below(path: Path) -> list[tuple[Path, Path]]:
    """The images of a folder, of its images/, or of the parts in that, with their label files."""
    beside = any(is_image_name(file.name) for file in path.iterdir())
    return _listed(path / "images" if (path / "images").is_dir() and not beside else path)


def _files_of(
    own: Path,
    content: Mapping[str, Any],
    entry: str,
    access: FileAccess,
    report: ReadReport,
    *,
    skip: bool,
    encoding: str | None,
) -> list[tuple[Path, Path]]:
    """The images of one entry, a folder or a text file that lists them, with their label files.

    Exported YAML files often hold "../train/images" where "train/images" is meant, and obj.data "data/train.txt". An
    entry that is not in the folder that the user named for the images stands for this folder.
    """
    root, entry = own.parent / str(content.get("path") or ""), entry.replace("\\", "/")
    for base in filter(None, (access.root, root, own.parent)):
        for relative in (entry, entry.removeprefix("../"), entry.removeprefix("data/")):
            with suppress(OSError):  # a name that no file can have
                place = access.path(base, relative)
                if place is None:
                    continue
                if (place / "images").is_dir():
                    return _listed(place / "images")
                if (real := _through_link(place)).is_dir():
                    return _listed(place, real=real)
                if not place.is_file():
                    continue
                of_list = replace(access, folder=place.parent, also=base)
                listed = _listed_in(place, of_list, report, skip=skip, encoding=encoding)
                return [(image, _label_file(_labels_of(image.parent), image.stem)) for image in listed]
    if access.root is not None:
        return _listed(access.root)
    raise DataFileError(
        f"names {entry!r:.200}, which is not there.",
        location=Location(str(own)),
        hint=f"Looked for {str(root / entry)!r:.300}; correct the path in the file.",
    )


def _folders_between(image: Path, path: Path) -> tuple[str, ...]:
    """The names of the folders in which an image lies below ``path``."""
    return image.relative_to(path).parts[:-1] if image.is_relative_to(path) else ()


def _listed_in(file: Path, access: FileAccess, report: ReadReport, *, skip: bool, encoding: str | None) -> list[Path]:
    """The images that a text file lists, one per line; relative ones begin at its folder, or at that of the data.yaml.
    A line that names no image is not shown: the file may be none of the data set's.
    """
    images = []
    for place, line in enumerate(read_text(file, encoding).splitlines(), 1):
        if not (name := line.strip()):
            continue
        fault = "" if is_image_name(name) else "is no name of an image."
        try:
            if not fault:
                images.append(_listed_image(name, access))
        except RowError as error:
            fault = error.message
        if fault:
            leave_out("line of a list (left out)", fault, Location(str(file), line=place), report, skip=skip)
    return images


def _listed_image(name: str, access: FileAccess) -> Path:
    """The image of a line in a list; darknet's begin with the folder "data", in which the list is expected to lie."""
    inside = find_file(name.replace("\\", "/").removeprefix("data/"), access)
    return inside if is_file(inside) else find_file(name, access)


def _through_link(path: Path) -> Path:
    """Follows "images" where an archive tool wrote the link out as a text file with its target in it."""
    for parent in path.parents:
        if parent.is_file() and parent.stat().st_size < 256:
            target = parent.parent / parent.read_text(encoding="utf-8", errors="replace").strip()
            return target / path.relative_to(parent)
    return path


def _read_image(image: Path, labels: Path, name: str, data: YoloSet, report: ReadReport) -> RawImage:
    location = Location(str(labels))
    raw = RawImage(str(image.absolute()), location, image_id=name, fractions=True)
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
        for file in sorted(folder.glob(_LABEL_FILES)):
            there = folder != images and any(is_image_name(p.name) for p in images.glob(f"{escape(file.stem)}.*"))
            if file not in known and file.name.lower() != "classes.txt" and file.name[0] != "." and not there:
                reason = "has labels, but there is no image of that name."
                leave_out("labels without an image (left out)", reason, Location(str(file)), report, skip=skip)


def _note_others(files: Sequence[tuple[Path, Path]], report: ReadReport) -> None:
    """Counts what lies beside the images and is neither an image nor of its labels."""
    for folder in dict.fromkeys(image.parent for image, _ in files):
        if folder.is_dir():
            beside = [file for file in sorted(folder.iterdir()) if file.is_file() and file.name[0] != "."]
            note_others(beside, report, but=_OF_LABELS)


def _label_file(folder: Path, stem: str) -> Path:
    """The label file of an image, where there is one; its suffix may be in capitals."""
    usual, capital = folder / f"{stem}.txt", folder / f"{stem}.TXT"
    return capital if is_file(capital) and not is_file(usual) else usual


def _labels_of(folder: Path) -> Path:
    """labels/... for images/... (the last folder of that name counts), else labels/ inside, else the folder itself."""
    parts = list(folder.parts)
    for place in reversed(range(len(parts))):
        if parts[place] == "images":
            parts[place] = "labels"
            return Path(*parts)
    inside = folder / "labels"
    return inside if inside.is_dir() else folder
