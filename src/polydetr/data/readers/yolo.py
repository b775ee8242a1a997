"""YOLO folders: one text file per image, one line per object: class number, center x, center y, width, height, all
four as shares of the image. Longer lines are outlines (class, x, y, x, y, ...), whose surrounding box is taken.

Read from data.yaml (its ``train`` part, or ``split=``), from the folder that holds it, or from one folder of images
(images/val), whose labels lie in labels/val. An image without a label file shows nothing, as YOLO has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polydetr.config.yaml_text import YamlFault, read_yaml
from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.boxes import (
    IMAGE_SUFFIXES,
    ImageFinder,
    RawImage,
    RawObject,
    image_files,
    number,
    records_of,
)
from polydetr.data.readers.source import read_text, refuse
from polydetr.errors import DataFileError, Location, SchemaError, did_you_mean, quoted, row_fault

_SPLITS = ("train", "val", "test")
_BEYOND = 0.01
"""By how much a share may leave 0..1 before the file is taken to hold pixels; what leaves it by less is clipped."""


@dataclass(frozen=True)
class YoloSet:
    """``files``: each image with its label file. ``names``: class number → name, from the file ``named_in``; both empty
    where no file names the classes.
    """

    files: tuple[tuple[Path, Path], ...]
    names: Mapping[int, str]
    named_in: str = ""


def is_yolo(path: Path) -> bool:
    """True for a YAML file with names of classes, a folder with one, or a folder of images with labels beside it."""
    if path.suffix in (".yaml", ".yml"):
        return path.is_file() and _is_set(_load_yaml(path))
    if not path.is_dir():
        return False
    return _own_yaml(path) is not None or (_holds_images(path) and any(f.is_file() for _, f in _below(path)))


def read_yolo(
    path: Path, *, report: ReadReport, skip: bool, images: str | Path | None = None, split: str | None = None
) -> Iterator[Record]:
    """One Record per image, in the order of their names.

    Raises:
        DataFileError: no images. SchemaError: no such split. RowError: an unknown class number, a line that is not
        numbers, labels without an image (``skip``: rejected into ``report`` instead).
    """
    data = _find(path, split, report)
    if images is not None:
        data = YoloSet(tuple(_listed(Path(images))), data.names, data.named_in)
    if not data.files:
        raise DataFileError("holds no images.", location=Location(str(path)), hint="Expected images/ and labels/.")
    if not any(labels.is_file() for _, labels in data.files):
        image, labels = data.files[0]
        raise DataFileError(
            f"holds {len(data.files)} images and no label file.",
            location=Location(str(path)),
            hint=f"Expected {str(labels)!r} for {image.name!r}, and so on.",
        )
    if not data.names:
        report.note("class numbers as names", "no data.yaml or classes.txt names the classes", Location(str(path)))
    _refuse_lone_labels(data.files, report, skip)
    raw = (_read_image(image, labels, data, report) for image, labels in data.files)
    return records_of(raw, ImageFinder([]), report=report, skip=skip, source=str(path))


def _listed(folder: Path, *, real: Path | None = None) -> list[tuple[Path, Path]]:
    """The images of ``folder`` (which lie in ``real``) with their label files."""
    labels = _labels_of(folder)
    return [(image, labels / f"{image.stem}.txt") for image in image_files(real or folder)]


def _find(path: Path, split: str | None, report: ReadReport) -> YoloSet:
    """The part ``split`` of a data.yaml (None: its first), or the images of a folder. Raises SchemaError."""
    own = path if path.is_file() else _own_yaml(path)
    if own is None:
        names, named_in = _names_near(path / "images" if (path / "images").is_dir() else path)
        return YoloSet(tuple(_below(path)), names, named_in)
    content = _load_yaml(own)
    parts = [s for s in _SPLITS if content.get(s)]
    chosen = split or (parts[0] if parts else "train")
    if chosen not in parts:
        raise SchemaError(
            f"{own.name} has no part {chosen!r}.", location=Location(str(own)), hint=did_you_mean(chosen, parts)
        )
    if split is None and len(parts) > 1:
        others = ", ".join(repr(p) for p in parts if p != chosen)
        report.note("one part read", f"{chosen!r} is read; name the folder of {others} to read it", Location(str(own)))
    entries = content[chosen] if isinstance(content[chosen], list) else [content[chosen]]
    files = [pair for entry in entries for pair in _files_of(own, content, str(entry))]
    return YoloSet(tuple(files), _names(content.get("names"), own), own.name)


def _below(path: Path) -> list[tuple[Path, Path]]:
    """The images of a folder, of its images/, or of the parts in that, with their label files."""
    folder = path / "images" if (path / "images").is_dir() and not image_files(path) else path
    return _listed(folder) or [pair for f in sorted(folder.iterdir()) if f.is_dir() for pair in _listed(f)]


def _files_of(own: Path, content: Mapping[str, Any], entry: str) -> list[tuple[Path, Path]]:
    """The images of one entry, a folder or a text file that lists them, with their label files.

    Exported YAML files often hold "../train/images" where "train/images" is meant.
    """
    root = own.parent / str(content.get("path") or "")
    for base in (root, own.parent):
        for relative in (entry, entry.removeprefix("../")):
            place = base / relative
            if (place / "images").is_dir():
                return _listed(place / "images")
            if (real := _through_link(place)).is_dir():
                return _listed(place, real=real)
            if place.is_file():
                listed = [base / line.strip() for line in read_text(place).split("\n") if line.strip()]
                return [(image, _labels_of(image.parent) / f"{image.stem}.txt") for image in listed]
    raise DataFileError(
        f"names {entry!r}, which is not there.",
        location=Location(str(own)),
        hint=f"Looked for {str(root / entry)!r}; correct the path in the file.",
    )


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
    if not labels.is_file():
        report.note("image without a label file (read as empty)", f"{image.name} has none", Location(str(image)))
        return raw
    where = location
    try:
        for line, text in enumerate(read_text(labels).splitlines(), 1):
            if text.strip():
                where = Location(str(labels), line=line)
                raw.objects.append(_object(text.split(), data, where))
    except DataFileError as error:
        raw.fault, raw.location = error.message, error.location or where
    except ValueError as error:
        raw.fault, raw.location = str(error), where
    except Exception as error:
        raw.fault, raw.location = row_fault(error, where).message, where
    return raw


def _object(cells: list[str], data: YoloSet, location: Location) -> RawObject:
    """The object of one line, its box as left, top, right, bottom in shares of the image. Raises ValueError."""
    if len(cells) != 5 and (len(cells) < 7 or len(cells) % 2 == 0):
        raise ValueError(
            f"{len(cells)} values ({' '.join(cells)[:60]}), expected class, center x, center y, width, height."
        )
    label = _label(cells[0], data)
    values = [number(c) for c in cells[1:]]
    if len(values) == 4:
        x, y, width, height = values
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    else:
        box = (min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2]))
    wrong = next((v for v in values if v > 1 + _BEYOND or v < -_BEYOND), None)
    if wrong is not None:
        raise ValueError(
            f"{wrong:g} is no share of the image; YOLO labels lie between 0 and 1, these look like pixels."
        )
    return RawObject(box, label, location=location)


def _label(text: str, data: YoloSet) -> str:
    value = number(text)
    if not value.is_integer() or value < 0:
        raise ValueError(f"the class is {text!r}, expected a whole number from 0.")
    if not data.names:
        return str(int(value))
    if int(value) not in data.names:
        low, high = min(data.names), max(data.names)
        raise ValueError(f"the class {int(value)} is not among those of {data.named_in} ({low} to {high}).")
    return data.names[int(value)]


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


def _own_yaml(folder: Path) -> Path | None:
    files = (f for pattern in ("*.yaml", "*.yml") for f in sorted(folder.glob(pattern)))
    return next((f for f in files if _is_set(_load_yaml(f))), None)


def _is_set(content: Mapping[str, Any]) -> bool:
    return "names" in content and any(split in content for split in _SPLITS)


def _names_near(folder: Path) -> tuple[Mapping[int, str], str]:
    """The class names from a YAML file in one of the four folders above, or from classes.txt among the labels."""
    for place in (folder, *list(folder.absolute().parents)[:4]):
        own = _own_yaml(place)
        if own is not None:
            return _names(_load_yaml(own).get("names"), own), own.name
    for file in (folder / "classes.txt", _labels_of(folder) / "classes.txt", _labels_of(folder).parent / "classes.txt"):
        if file.is_file():
            lines = read_text(file).splitlines()
            return dict(enumerate(line.strip() for line in lines if line.strip())), file.name
    return {}, ""


def _names(value: Any, own: Path) -> dict[int, str]:
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value if isinstance(value, list) else ())
    try:
        names = {int(key): str(name) for key, name in pairs}
    except (TypeError, ValueError, OverflowError):
        names = {}
    if not names:
        raise DataFileError(
            f"names is {quoted(value, 60)}, expected a list of class names.", location=Location(str(own))
        )
    return names


def _load_yaml(path: Path) -> Mapping[str, Any]:
    """Empty for a file that is no YAML mapping, which is then not a data set either.

    Raises:
        DataFileError: it names classes, and cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    try:
        content = read_yaml(text)
    except YamlFault as fault:
        if re.search(r"^names\s*:", text, re.MULTILINE):
            raise DataFileError(f"{fault}.", location=Location(str(path))) from None
        return {}
    return content if isinstance(content, Mapping) else {}
