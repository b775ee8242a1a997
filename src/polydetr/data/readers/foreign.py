"""Exports of annotation tools that are not read: recognized, and refused with what to name or to convert."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from polydetr.data.readers.boxes_csv import box_columns, lacks_label
from polydetr.errors import DataFileError, Location, SchemaError

_CONVERT = "Export it as COCO JSON, Pascal VOC or YOLO, or write a table of image, xmin, ymin, xmax, ymax, label."
_PARTS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval"})
_TOOLS: tuple[tuple[str, set[str], tuple[str, str] | None], ...] = (
    ("VIA", {"_via_img_metadata"}, None),
    ("VIA", {"filename", "regions"}, ("regions", "shape_attributes")),
    ("LabelMe", {"shapes", "imagePath"}, None),
    ("Supervisely", {"size", "objects"}, ("objects", "classTitle")),
    ("CreateML", {"image", "annotations"}, ("annotations", "coordinates")),
    ("Datumaro", {"items", "categories"}, None),
    ("VoTT", {"asset", "regions"}, None),
    ("Labelbox", {"data_row", "projects"}, None),
    ("a model's answers (COCO's results)", {"image_id", "category_id", "bbox", "score"}, None),
)
"""Tool, keys of its document or of an entry of it; of one of those keys that holds a list, a key of what is in it."""
_KEYS_OF_BOXES = (
    (b'"images"', b'"file_name"'), (b'"shapes"', b'"points"'), (b'"annotations"', b'"coordinates"'),
    (b'"regions"', b'"shape_attributes"'),
)  # fmt: skip
"""Two keys each of the JSON of COCO, LabelMe, CreateML and VIA."""
_METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
"""A table of file names and labels, as Hugging Face's ImageFolder has it beside the images."""
_LOOKED_AT = 20


def refuse_document(document: Any, location: Location) -> None:
    """Raises DataFileError where the content of a JSON file is an export of a known tool."""
    entries = document if isinstance(document, list) else [document]
    if isinstance(document, Mapping):
        entries = [document, *document.values()]
    for entry in islice(entries, _LOOKED_AT):
        tool = _tool_of(entry) if isinstance(entry, Mapping) else None
        if tool is not None:
            raise DataFileError(f"is an export of {tool}, which is not read.", location=location, hint=_CONVERT)


def _tool_of(entry: Mapping[str, Any]) -> str | None:
    for tool, keys, inner in _TOOLS:
        if keys <= entry.keys():
            parts = entry[inner[0]] if inner else ()
            first = parts[0] if isinstance(parts, list) and parts else None
            if inner is None or (isinstance(first, Mapping) and inner[1] in first):
                return tool
    return None


def refuse_file(suffix: str, head: bytes, location: Location) -> None:
    """Raises DataFileError for a file that holds the rows of a known tool in a way of its own."""
    if suffix == ".spacy":
        raise DataFileError(
            "is a DocBin of spaCy, which is not read.",
            location=location,
            hint="Write its documents as JSON lines with spaCy: for doc in DocBin().from_disk(FILE).get_docs("
            'nlp.vocab), {"text": doc.text, "entities": [{"start": e.start_char, "end": e.end_char, "label": e.label_} '
            "for e in doc.ents]}.",
        )
    if head.lstrip().startswith(b"<") and b"<annotation>" in head:
        raise DataFileError(
            "is one file of Pascal VOC, which has a file per image.",
            location=location,
            hint="Name the folder of all of them.",
        )


def refuse_table(names: Iterable[str], location: Location) -> None:
    """Raises SchemaError where the columns of a table are those of boxes, but not of boxes that can be read."""
    lowered = {name.strip().lower() for name in names}
    if {"region_shape_attributes", "region_attributes"} <= lowered:
        raise SchemaError("is a table of VIA, which is not read.", location=location, hint=_CONVERT)
    absent = lacks_label(names)
    if absent:
        raise SchemaError(
            f"holds boxes ({', '.join(absent.box)}) in images ({absent.image}), but no column that is called 'label' "
            "(or class, category, name).",
            location=location,
            hint="Rename the column of the labels, or add one; as a plain table it is read with --format csv "
            "(format='csv').",
        )


def refuse_folder(path: Path, kind_of: Callable[[Path], str | None], *, labels: bool = True) -> None:
    """Raises DataFileError for a folder that holds the parts of a data set, or an export of a known tool.

    kind_of: the format of a folder, None where it has none. labels: whether the labels that lie beside images matter.
    """
    folders = sorted(f for f in path.iterdir() if f.is_dir() and not f.name.startswith("."))
    location = Location(str(path))
    if any((of / "img").is_dir() and (of / "ann").is_dir() for of in (path, *folders)):
        raise DataFileError("is an export of Supervisely, which is not read.", location=location, hint=_CONVERT)
    has_parts = any(folder.name.lower() in _PARTS for folder in folders)
    kinds = {f.name: kind for f in folders if has_parts and (kind := kind_of(f)) is not None}
    if kinds and all(name.lower() in _PARTS for name in kinds):
        what = {"voc": "Pascal VOC", "yolo": "YOLO", "images": "images"}[next(iter(kinds.values()))]
        raise DataFileError(
            f"holds the parts of a data set ({what}): {', '.join(kinds)}.",
            location=location,
            hint=f"Name one of them, such as {str(path / next(iter(kinds)))!r}; if these are labels, say so with "
            "--format images (format='images').",
        )
    if not labels:
        return
    others = sorted(f for f in path.iterdir() if f.suffix.lower() in (".json", ".csv") and f.is_file())
    boxes = [f for f in others[:_LOOKED_AT] if _holds_boxes(f)]
    labels_beside = [path / name for name in _METADATA if (path / name).is_file()]
    for file in [*boxes, *labels_beside][:1]:
        raise DataFileError(
            f"holds {file.name!r}, the {'boxes' if boxes else 'labels'} of its images.",
            location=location,
            hint=f"Name that file: {str(file)!r}; the images alone are read with --format images (format='images').",
        )


def _holds_boxes(file: Path) -> bool:
    """Whether a file that lies among images is COCO's JSON, a JSON of another tool, or a table of boxes."""
    with open(file, "rb") as stream:
        head = stream.read(1 << 16)
    if file.suffix.lower() == ".csv":
        return box_columns(head.decode("utf-8", errors="replace").partition("\n")[0].split(",")) is not None
    return any(first in head and second in head for first, second in _KEYS_OF_BOXES)
