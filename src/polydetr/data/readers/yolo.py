"""YOLO folders: one text file per image, one line per object: class number, center x, center y, width, height, all
four as shares of the image. Longer lines are outlines (class, x, y, x, y, ...), whose surrounding box is taken.

Read from data.yaml (its ``train`` part, or ``split=``), from the folder that holds it, or from one folder of images
(images/val), whose labels lie in labels/val; images in folders below have theirs in the folders of the same names. An
image without a label file shows nothing, as YOLO has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import Any

from polydetr.core.access import IN_MEMORY, FileAccess
from polydetr.core.files import read_whole
from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.boxes import ImageFinder, RawImage, RawObject, number, records_of
from polydetr.data.readers.folders import files_below, image_files, names_apart, note_others, parts_among
from polydetr.data.readers.source import leave_out
from polydetr.errors import DataFileError, Location, RowError, SchemaError, nearest
from polydetr.values.files import find_file, is_image_name

_SPLITS = ("train", "val", "test")
TRAIN_PARTS, VALID_PARTS, TEST_PARTS = ("train",), ("val",), ("test", "val")
"""The parts of a data.yaml that may be learned from, chosen by, and measured on, the better ones first."""
_MOST_BYTES = 64 << 20
_OF_LABELS = frozenset({".txt", ".yaml", ".yml", ".json", ".xml", ".cache"})
"""Suffixes of what lies beside images and is none."""
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
    return _own_yaml(path) is not None or _has_labels(path)


def _has_labels(folder: Path) -> bool:
    """Whether an image in the folder, or below, has a label file; below, texts beside the images are something else."""
    of_folder: dict[Path, Path | None] = {}
    for image in files_below(folder):
        if is_image_name(image.name):
            if image.parent not in of_folder:
                labels = _labels_of(image.parent)
                counts = labels.is_dir() and (image.parent == folder or labels != image.parent)
                of_folder[image.parent] = labels if counts and any(labels.glob("*.txt")) else None
            labels = of_folder[image.parent]
            if labels is not None and (labels / f"{image.stem}.txt").is_file():
                return True
    return False


def read_yolo(
    path: Path,
    *,
    report: ReadReport,
    skip: bool,
    access: FileAccess = IN_MEMORY,
    split: str | Sequence[str] | None = None,
) -> Iterator[Record]:
    """One Record per image, in the order of their names.

    access: names the folder of the images, if they lie elsewhere. split: the part of a data.yaml, or several, of which
    the first that it has is read.

    Raises:
        DataFileError: no images. SchemaError: no such split. RowError: an unknown class number, a line that is not
        numbers, labels without an image (``skip``: rejected into ``report`` instead).
    """
    data = _find(path, split, access, report, skip=skip)
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
    _note_others(data.files, report)
    names = names_apart([image for image, _ in data.files])
    raw = (_read_image(*files, name, data, report) for files, name in zip(data.files, names, strict=True))
    return records_of(raw, ImageFinder([], access), report=report, skip=skip, source=str(path))


def _listed(folder: Path, *, real: Path | None = None) -> list[tuple[Path, Path]]:
    """The images of ``folder`` (which lie in ``real``) and below with their label files."""
    pairs = []
    for image in image_files(real or folder):
        inside = image.relative_to(real or folder)
        here, above = (_labels_of((folder / inside).parent) / inside.name, _labels_of(folder) / inside)
        beside, below = here.with_suffix(".txt"), above.with_suffix(".txt")
        pairs.append((image, below if below.is_file() else beside))
    return pairs


def _find(
    path: Path, split: str | Sequence[str] | None, access: FileAccess, report: ReadReport, *, skip: bool
) -> YoloSet:
    """The part ``split`` of a data.yaml (None: its first), or the images of a folder. Raises SchemaError."""
    own = path if path.is_file() else _own_yaml(path)
    if own is None:
        names, named_in = _names_near(path / "images" if (path / "images").is_dir() else path)
        pairs = _below(path) if access.root is None else _listed(access.root)
        if parts := parts_among(list({part for image, _ in pairs for part in _folders_between(image, path)})):
            shown = ", ".join(map(repr, parts))
            report.note("parts read together", f"{shown}; name the folder of one to read it alone", Location(str(path)))
        return YoloSet(tuple(pairs), names, named_in)
    content = _load_yaml(own)
    parts = [s for s in _SPLITS if content.get(s)]
    wanted = [split] if isinstance(split, str) else list(split or _SPLITS)
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
    files = [pair for entry in entries for pair in _files_of(own, content, str(entry), access, report, skip=skip)]
    return YoloSet(tuple(files), _names(content.get("names"), own), own.name)


def _below(path: Path) -> list[tuple[Path, Path]]:
    """The images of a folder, of its images/, or of the parts in that, with their label files."""
    beside = any(is_image_name(file.name) for file in path.iterdir())
    return _listed(path / "images" if (path / "images").is_dir() and not beside else path)


def _files_of(
    own: Path, content: Mapping[str, Any], entry: str, access: FileAccess, report: ReadReport, *, skip: bool
) -> list[tuple[Path, Path]]:
    """The images of one entry, a folder or a text file that lists them, with their label files.

    Exported YAML files often hold "../train/images" where "train/images" is meant. An entry that is not in the folder
    that the user named for the images stands for this folder.
    """
    root = own.parent / str(content.get("path") or "")
    for base in filter(None, (access.root, root, own.parent)):
        for relative in (entry, entry.removeprefix("../")):
            place = access.path(base, relative)
            if place is None:
                continue
            if (place / "images").is_dir():
                return _listed(place / "images")
            if (real := _through_link(place)).is_dir():
                return _listed(place, real=real)
            if place.is_file():
                listed = _listed_in(place, replace(access, folder=place.parent, also=base), report, skip=skip)
                return [(image, _labels_of(image.parent) / f"{image.stem}.txt") for image in listed]
    if access.root is not None:
        return _listed(access.root)
    raise DataFileError(
        f"names {entry!r}, which is not there.",
        location=Location(str(own)),
        hint=f"Looked for {str(root / entry)!r}; correct the path in the file.",
    )


def _folders_between(image: Path, path: Path) -> tuple[str, ...]:
    """The names of the folders in which an image lies below ``path``."""
    return image.relative_to(path).parts[:-1] if image.is_relative_to(path) else ()


def _listed_in(file: Path, access: FileAccess, report: ReadReport, *, skip: bool) -> list[Path]:
    """The images that a text file lists, one per line; relative ones begin at its folder, or at that of the data.yaml.
    A line that names no image is not shown: the file may be none of the data set's.
    """
    images = []
    lines = read_whole(file, most=_MOST_BYTES).decode("utf-8-sig", errors="replace").split("\n")
    for place, line in enumerate(lines, 1):
        fault = "" if is_image_name(line.strip()) else "is no name of an image."
        try:
            if line.strip() and not fault:
                images.append(find_file(line, access))
        except RowError as error:
            fault = error.message
        if line.strip() and fault:
            leave_out("line of a list (left out)", fault, Location(str(file), line=place), report, skip=skip)
    return images


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
    if not labels.is_file():
        report.note("image without a label file (read as empty)", f"{image.name} has none", Location(str(image)))
        return raw
    where = location
    try:
        for line, text in enumerate(read_whole(labels, most=_MOST_BYTES).decode().splitlines(), 1):
            if text.strip():
                where = Location(str(labels), line=line)
                raw.objects.append(_object(text.split(), data, where))
    except UnicodeDecodeError:
        raw.fault = "is not UTF-8 text."
    except ValueError as error:
        raw.fault, raw.location = str(error), where
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
            there = folder != images and any(is_image_name(p.name) for p in images.glob(f"{escape(file.stem)}.*"))
            if file not in known and file.name != "classes.txt" and file.name[0] != "." and not there:
                reason = "has labels, but there is no image of that name."
                leave_out("labels without an image (left out)", reason, Location(str(file)), report, skip=skip)


def _note_others(files: Sequence[tuple[Path, Path]], report: ReadReport) -> None:
    """Counts what lies beside the images and is neither an image nor of its labels."""
    for folder in dict.fromkeys(image.parent for image, _ in files):
        if folder.is_dir():
            beside = [file for file in sorted(folder.iterdir()) if file.is_file() and file.name[0] != "."]
            note_others(beside, report, but=_OF_LABELS)


def _labels_of(folder: Path) -> Path:
    """labels/... for images/... (the last folder of that name counts), else labels/ inside, else the folder itself."""
    parts = list(folder.parts)
    for place in reversed(range(len(parts))):
        if parts[place] == "images":
            parts[place] = "labels"
            return Path(*parts)
    inside = folder / "labels"
    return inside if inside.is_dir() else folder


def _own_yaml(folder: Path) -> Path | None:
    files = (f for pattern in ("*.yaml", "*.yml") for f in sorted(folder.glob(pattern)))
    return next((f for f in files if f.name[0] != "." and _is_set(_load_yaml(f))), None)


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
            lines = read_whole(file, most=_MOST_BYTES).decode("utf-8-sig", errors="replace").splitlines()
            return dict(enumerate(line.strip() for line in lines if line.strip())), file.name
    return {}, ""


def _names(value: Any, own: Path) -> dict[int, str]:
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value if isinstance(value, list) else ())
    try:
        names = {int(key): str(name) for key, name in pairs}
    except (TypeError, ValueError):
        names = {}
    if not names:
        raise DataFileError(f"names is {value!r:.60}, expected a list of class names.", location=Location(str(own)))
    return names


def _load_yaml(path: Path) -> Mapping[str, Any]:
    """Empty for a file that is no YAML mapping, which is then not a data set either."""
    import yaml

    try:
        content = yaml.safe_load(read_whole(path, most=_MOST_BYTES))
    except (yaml.YAMLError, OSError, ValueError):
        return {}
    return content if isinstance(content, Mapping) else {}
