"""Pascal VOC: a folder of XML files, one per image, as LabelImg and the VOC challenge write them.

Read from the folder of the XML files, from the folder above it (Annotations/ and JPEGImages/), or from a list of names
in ImageSets/Main (train.txt), which chooses the images. "difficult" objects are objects like any other. Of a turned box
(an attribute "rotation" in degrees, or a robndbox, whose angle is in radians) the box around it is taken.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.boxes import (
    IMAGE_SUFFIXES,
    ImageFinder,
    RawImage,
    RawObject,
    claimed_size,
    image_files,
    records_of,
)
from polydetr.data.readers.source import read_text
from polydetr.errors import DataFileError, Location, row_fault
from polydetr.values.boxes import around_turned, number
from polydetr.values.objects import turned

_IMAGE_FOLDERS = ("JPEGImages", "images", "Images", "imgs", ".")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_DECLARED = re.compile(rb"""^[^<]{0,4}<\?xml[^>]*\sencoding\s*=\s*["']([\w.-]+)["']""")
_TOOLS = {"annotations": "CVAT's own XML: export the task as COCO or Pascal VOC"}


def annotation_folder(path: Path) -> Path | None:
    """The folder with the XML files of the data set at ``path``, or None where there is none."""
    for folder in (path, path / "Annotations", path / "annotations", *_below(path)):
        if folder.is_dir() and next(folder.glob("*.xml"), None) is not None:
            return folder
    return None


def _below(path: Path) -> list[Path]:
    """Unpacked archives often keep one more folder in between; only a lone one is taken."""
    folders = [p / "Annotations" for p in path.iterdir() if (p / "Annotations").is_dir()] if path.is_dir() else []
    return folders if len(folders) == 1 else []


def is_voc_list(path: Path) -> bool:
    """True for a list of names such as ImageSets/Main/train.txt."""
    return path.suffix == ".txt" and path.parent.name == "Main" and path.parent.parent.name == "ImageSets"


def read_voc(
    path: Path, *, report: ReadReport, skip: bool, images: str | Path | None = None, encoding: str | None = None
) -> Iterator[Record]:
    """One Record per XML file, in the order of their names (of a list: in its order). encoding: of the files, where
    they neither are UTF-8 nor say what they are.

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
    files = sorted(folder.glob("*.xml"))
    if listed:
        names = [line.split()[0] for line in read_text(path, encoding).splitlines() if line.split()]
        files = [folder / f"{name}.xml" for name in names]
    roots = [Path(images)] if images else [r / f for r in (folder.parent, folder) for f in _IMAGE_FOLDERS]
    finder = ImageFinder(roots)
    if not listed:
        _note_unlabeled(roots, {f.stem for f in files}, report)
    raw = (_read_file(file, finder, encoding) for file in files)
    return records_of(raw, finder, report=report, skip=skip, source=str(path))


def _read_file(file: Path, finder: ImageFinder, encoding: str | None) -> RawImage:
    location = Location(str(file))
    image = RawImage(file.stem, location, image_id=file.stem)
    try:
        image.name = _image_name(file, None, finder)
        content = read_text(file, encoding or _declared(file))
        if "<!ENTITY" in content or "<!DOCTYPE" in content:  # entities can be nested to fill the memory
            raise ValueError("declares entities, which no VOC file needs.")
        root = ElementTree.fromstring(content)
        if root.tag != "annotation":
            tool = f" This is {_TOOLS[root.tag]}." if root.tag in _TOOLS else ""
            raise ValueError(f"is <{root.tag[:60]}>, expected Pascal VOC's <annotation>.{tool}")
        image.name = _image_name(file, root.findtext("filename"), finder)
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
    """The encoding that an XML file says it has. Raises OSError."""
    with open(file, "rb") as stream:
        declared = _DECLARED.match(stream.read(200))
    if declared is None:
        return None
    name = declared[1].decode().lower()
    return "gb18030" if name in ("gb2312", "gbk") else name  # which has all that Windows means by those


def _image_name(file: Path, written: str | None, finder: ImageFinder) -> str:
    """The image of the same name as the XML file; else the one that is written in it.

    Files are renamed more often than their <filename> is corrected, so the file's own name goes first.
    """
    suffixes = dict.fromkeys([Path(written or "").suffix, ".jpg", *sorted(IMAGE_SUFFIXES)])
    for suffix in filter(None, suffixes):
        if finder.find(file.stem + suffix) is not None:
            return file.stem + suffix
    return (written or "").strip() or f"{file.stem}.jpg"


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


def _note_unlabeled(roots: list[Path], stems: set[str], report: ReadReport) -> None:
    """An image without an XML file may hold anything: it is left out, and reported; so is one that has the name of
    another but for its suffix, and whose boxes may be either's.
    """
    folder = next((r for r in roots if r.is_dir() and image_files(r)), None)
    first: dict[str, Path] = {}
    for image in image_files(folder) if folder else ():
        if first.setdefault(image.stem, image) != image and image.stem in stems:
            message = f"{image.stem}.xml may be that of {first[image.stem].name} or of {image.name}"
            report.note("one annotation file for two images", message, Location(str(folder)))
        if image.stem not in stems:
            report.note("image without annotations (left out)", f"{image.name} has no XML file", Location(str(folder)))
