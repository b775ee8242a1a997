"""Pascal VOC: a folder of XML files, one per image, as LabelImg and the VOC challenge write them.

Read from the folder of the XML files, from the folder above it (Annotations/ and JPEGImages/), or from a list of names
in ImageSets/Main (train.txt), which chooses the images. "difficult" objects are objects like any other. Of a turned box
(an attribute "rotation" in degrees, or a robndbox, whose angle is in radians) the box around it is taken.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from polydetr.core.access import IN_MEMORY, FileAccess
from polydetr.core.files import read_whole
from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.boxes import (
    ImageFinder,
    RawImage,
    RawObject,
    claimed_size,
    records_of,
)
from polydetr.data.readers.folders import files_below, image_files, names_apart, note_others
from polydetr.data.readers.source import MOST_BYTES, read_text
from polydetr.errors import DataFileError, Location, row_fault
from polydetr.values.boxes import around_turned, number
from polydetr.values.files import is_image_name
from polydetr.values.objects import turned

_IMAGE_FOLDERS = ("JPEGImages", "images", "Images", "imgs", ".")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_DECLARED = re.compile(rb"""^[^<]{0,4}<\?xml[^>]*\sencoding\s*=\s*["']([\w.-]+)["']""")
_TOOLS = {"annotations": "CVAT's own XML: name that file itself"}


def annotation_folder(path: Path) -> Path | None:
    """The folder with the XML files of the data set at ``path``, or None where there is none."""
    if path.is_dir() and any(file.parent == path or path.name.lower() == "annotations" for file in _xml_files(path)):
        return path
    below = (path / "Annotations", path / "annotations", *_below(path))
    return next((folder for folder in below if folder.is_dir() and any(_xml_files(folder))), None)


def _xml_files(folder: Path) -> Iterator[Path]:
    return (file for file in files_below(folder) if file.suffix.lower() == ".xml")


def _below(path: Path) -> list[Path]:
    """Unpacked archives often keep one more folder in between; only a lone one is taken."""
    folders = [p / "Annotations" for p in path.iterdir() if (p / "Annotations").is_dir()] if path.is_dir() else []
    return folders if len(folders) == 1 else []


def is_voc_list(path: Path) -> bool:
    """True for a list of names such as ImageSets/Main/train.txt."""
    return path.suffix == ".txt" and path.parent.name == "Main" and path.parent.parent.name == "ImageSets"


def read_voc(
    path: Path, *, report: ReadReport, skip: bool, access: FileAccess = IN_MEMORY, encoding: str | None = None
) -> Iterator[Record]:
    """One Record per XML file, in the order of their names (of a list: in its order). encoding: of the files, where
    they neither are UTF-8 nor say what they are.

    access: names the folder of the images, if they lie elsewhere.

    Raises:
        DataFileError: no XML files, a list in another encoding, or not one image found. RowError: a file that is not
        VOC, a listed name without an XML file, a box that is not four numbers, a missing image (``skip``: rejected into
        ``report`` instead).
    """
    listed = is_voc_list(path)
    root = path.parents[2] if listed else path
    folder = annotation_folder(root)
    if folder is None:
        raise DataFileError("holds no XML files, expected Pascal VOC.", location=Location(str(root)))
    files = list(_xml_files(folder))
    finder = ImageFinder.of(access, [r / f for r in (folder.parent, folder) for f in _IMAGE_FOLDERS])
    if listed:
        files = _listed(path, folder, files, encoding)
    else:
        _note_unlabeled(finder.folders, files, report)
    raw = (
        _read_file(file, folder, name, finder, encoding) for file, name in zip(files, names_apart(files), strict=True)
    )
    return records_of(raw, finder, report=report, skip=skip, source=str(path))


def _listed(path: Path, folder: Path, files: Sequence[Path], encoding: str | None) -> list[Path]:
    """The XML files of the names in the list ``path``."""
    by_name = {key: f for f in files for key in (f.stem, f.relative_to(folder).with_suffix("").as_posix())}
    names = [line.split()[0] for line in read_text(path, encoding).splitlines() if line.split()]
    return [by_name.get(name, folder / f"{Path(name).name}.xml") for name in names]


def _read_file(file: Path, folder: Path, name: str, finder: ImageFinder, encoding: str | None) -> RawImage:
    """folder: of all XML files; name: what names the image among them."""
    location, stem = Location(str(file)), file.relative_to(folder).with_suffix("").as_posix()
    image = RawImage(stem, location, image_id=name)
    try:
        image.name = _image_name(stem, None, finder)
        content = read_text(file, encoding or _declared(file))
        if "<!ENTITY" in content or "<!DOCTYPE" in content:  # entities can be nested to fill the memory
            raise ValueError("declares entities, which no VOC file needs.")
        root = ElementTree.fromstring(content)
        if root.tag != "annotation":
            tool = f" This is {_TOOLS[root.tag]}." if root.tag in _TOOLS else ""
            raise ValueError(f"is <{root.tag[:60]}>, expected Pascal VOC's <annotation>.{tool}")
        image.name = _image_name(stem, root.findtext("filename"), finder)
        image.size = _size(root)
        image.objects = [_object(o, place, location) for place, o in enumerate(root.findall("object"), 1)]
    except FileNotFoundError:
        image.fault = "is listed, but there is no such file."
    except ElementTree.ParseError as error:
        image.fault = f"is not XML: {error}."
    except DataFileError as error:
        image.fault = f"{error.message} {error.hint or ''}".rstrip()
    except (ValueError, OSError) as error:
        image.fault = str(error)
    except Exception as error:
        image.fault = row_fault(error, location).message
    return image


def _declared(file: Path) -> str | None:
    """The encoding that an XML file says it has. Raises OSError, DataFileError."""
    declared = _DECLARED.match(read_whole(file, most=MOST_BYTES)[:200])
    if declared is None:
        return None
    name = declared[1].decode().lower()
    return "gb18030" if name in ("gb2312", "gbk") else name  # which has all that Windows means by those


def _image_name(stem: str, written: str | None, finder: ImageFinder) -> str:
    """The image of the same name as the XML file, ``stem`` (with its folders); else the one that is written in it.

    Files are renamed more often than their <filename> is corrected, so the file's own name goes first.
    """
    for name in dict.fromkeys((stem + Path((written or "").strip()).suffix, stem)):
        if (path := finder.find(name)) is not None and path.stem == Path(stem).name:
            return stem + path.suffix
    return (written or "").strip() or f"{stem}.jpg"


def _size(root: Any) -> tuple[int, int] | None:
    """None where it is left out or 0×0, as some tools write it."""
    return claimed_size(root.findtext("size/width"), root.findtext("size/height"))


def _object(node: Any, place: int, location: Location) -> RawObject:
    label = (node.findtext("name") or "").strip()
    if not label:
        raise ValueError(f"object {place} has no name.")
    if node.find("robndbox") is not None:
        return RawObject(_around_robndbox(node, f"object {place} ({label:.60})"), label, location=location, turned=True)
    texts = [node.findtext(f"bndbox/{corner}") for corner in _CORNERS]
    absent = [c for c, text in zip(_CORNERS, texts, strict=True) if text is None]
    if absent:
        raise ValueError(f"object {place} ({label}) has no {absent[0]} in its bndbox.")
    try:
        box = [number(text) for text in texts]
        around = turned(box, _attributes(node))
    except ValueError as error:
        raise ValueError(f"object {place} ({label}): {error}") from None
    return RawObject(around or box, label, location=location, turned=around is not None)


def _attributes(node: Any) -> dict[str, str]:
    """What tools write beside the box: <attributes><attribute><name>rotation</name><value>90</value>..., or elements
    of their own.
    """
    pairs = [(one.findtext("name"), one.findtext("value")) for one in node.findall("attributes/attribute")]
    own = [(name, node.findtext(name) or node.findtext(f"bndbox/{name}")) for name in ("rotation", "angle")]
    return {name.strip(): (value or "").strip() for name, value in (*own, *pairs) if name}


def _around_robndbox(node: Any, what: str) -> tuple[float, float, float, float]:
    """The box around a center, a size and an angle in radians, as roLabelImg writes them. Raises ValueError."""
    try:
        x, y, w, h, angle = (number(node.findtext(f"robndbox/{part}")) for part in ("cx", "cy", "w", "h", "angle"))
        return around_turned((x - w / 2, y - h / 2, x + w / 2, y + h / 2), math.degrees(angle))
    except ValueError as error:
        raise ValueError(f"{what}: in its robndbox {error}") from None


def _note_unlabeled(roots: Sequence[Path], files: Sequence[Path], report: ReadReport) -> None:
    """An image without an XML file may hold anything: it is left out, and reported; so is what is no image, and one
    that has the name of another but for its suffix, and whose boxes may be either's.
    """
    stems = {file.stem for file in files}
    folder = next((r for r in roots if r.is_dir() and _images_in(r)), None)
    first: dict[Path, Path] = {}
    for image in _images_in(folder) if folder else ():
        if first.setdefault(image.with_suffix(""), image) != image and image.stem in stems:
            message = f"{image.stem}.xml may be that of {first[image.with_suffix('')].name} or of {image.name}"
            report.note("one annotation file for two images", message, Location(str(folder)))
        if image.stem not in stems:
            report.note("image without annotations (left out)", f"{image.name} has no XML file", Location(str(folder)))
    if folder and folder.name in _IMAGE_FOLDERS:
        note_others([file for file in files_below(folder) if file not in files], report)


def _images_in(folder: Path) -> list[Path]:
    """Its images; with those of the folders below where they are known to be of this data set."""
    images = image_files(folder) if folder.name in _IMAGE_FOLDERS else []
    return images or [f for f in folder.iterdir() if is_image_name(f.name) and f.is_file() and f.name[0] != "."]
