"""COCO JSON (https://cocodataset.org/#format-data): images, annotations and categories in one document.

Ids may be numbers or strings, dense or not: they serve to join the three lists; rows carry names alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from polydetr.core.access import IN_MEMORY, FileAccess
from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.boxes import ImageFinder, RawImage, RawObject, number, records_of
from polydetr.data.readers.source import Source, leave_out, refuse
from polydetr.errors import DataFileError, Location, did_you_mean


def is_coco(document: Any) -> bool:
    """True for a mapping with lists of images and of annotations; of a test set without annotations, of categories."""
    if not isinstance(document, Mapping) or not isinstance(document.get("images"), list):
        return False
    return isinstance(document.get("annotations" if "annotations" in document else "categories"), list)


def read_coco(
    document: Mapping[str, Any], source: Source, *, report: ReadReport, skip: bool, access: FileAccess = IN_MEMORY
) -> Iterator[Record]:
    """One Record per image, those without a box included.

    document: the content of ``source``. access: names the folder of the images; else it is looked for around the file,
    as COCO lays it out.

    Raises:
        DataFileError: no images, categories that contradict one another, or not one image found. RowError: an
        annotation of an unknown image or category, a box that is not four numbers, a missing image, an id given
        twice (``skip``: rejected into ``report`` instead).
    """
    location = Location(source.name)
    if not document["images"]:
        raise DataFileError("lists no images.", location=location)
    categories = _category_names(document, location)
    known = {str(i["id"]) for i in document["images"] if isinstance(i, Mapping) and "id" in i}
    by_image = _by_image(document.get("annotations") or [], known, location, report, skip)
    raw = _images(document["images"], by_image, categories, location, report, skip)
    stem = source.path.stem if source.path else ""
    parts = filter(None, dict.fromkeys([stem.partition("_")[2], *stem.split("_")]))  # instances_val2017 → val2017
    places = ("", "images", *(place for part in parts for place in (f"images/{part}", part)))
    finder = ImageFinder.around(source.path, access, places)
    return records_of(raw, finder, report=report, skip=skip, source=source.name)


def _category_names(document: Mapping[str, Any], location: Location) -> dict[str, str]:
    """Category id, as a string, → name.

    Raises DataFileError where a category has no id, or one id has two names.
    """
    names: dict[str, str] = {}
    for place, category in enumerate(document.get("categories") or (), 1):
        if not isinstance(category, Mapping) or "id" not in category:
            raise DataFileError(f"category {place} ({category!r:.60}) has no id.", location=location)
        key, label = str(category["id"]), str(category.get("name") or category["id"])
        if names.setdefault(key, label) != label:
            raise DataFileError(
                f"the category id {category['id']!r} stands for both {names[key]!r} and {label!r}.",
                location=location,
                hint="Give every category an id of its own.",
            )
    return names


def _by_image(
    annotations: list[Any], known: set[str], location: Location, report: ReadReport, skip: bool
) -> dict[str, list[tuple[int, Mapping[str, Any]]]]:
    """Image id → its annotations with their places in the file, counted from 1."""
    grouped: dict[str, list[tuple[int, Mapping[str, Any]]]] = defaultdict(list)
    used_ids: set[Any] = set()
    for place, annotation in enumerate(annotations, 1):
        if not isinstance(annotation, Mapping) or "image_id" not in annotation:
            reason = f"annotation {place} ({annotation!r:.60}) has no image_id."
            leave_out("annotation of no image (left out)", reason, location, report, skip=skip)
            continue
        if str(annotation["image_id"]) not in known:
            reason = f"annotation {place} belongs to the image {annotation['image_id']!r}, which is not listed."
            leave_out("annotation of no image (left out)", reason, location, report, skip=skip)
            continue
        key = str(annotation.get("id", f"place {place}"))
        if key in used_ids:
            report.note(
                "annotation id twice (both kept)", f"annotation {place}: the id {key} was used before", location
            )
        used_ids.add(key)
        grouped[str(annotation["image_id"])].append((place, annotation))
    return grouped


def _images(
    images: list[Any],
    by_image: Mapping[str, list[tuple[int, Mapping[str, Any]]]],
    categories: Mapping[str, str],
    location: Location,
    report: ReadReport,
    skip: bool,
) -> Iterator[RawImage]:
    used_ids: set[str] = set()
    for row, image in enumerate(images, 1):
        where = Location(location.file, row=row)
        if not isinstance(image, Mapping) or "id" not in image or not image.get("file_name"):
            refuse(f"image {row} ({image!r:.60}) lacks an id or a file_name.", where, report, skip=skip)
            continue
        key = str(image["id"])
        if key in used_ids:
            reason = f"the image id {image['id']!r} was given to another image before ({image['file_name']!r} now)."
            refuse(reason, where, report, skip=skip)
            continue
        used_ids.add(key)
        raw = RawImage(str(image["file_name"]), where, image_id=image["id"], size=_size(image))
        for place, annotation in by_image.get(key, ()):
            try:
                raw.objects.append(_object(annotation, categories, where))
            except ValueError as error:
                raw.fault = f"annotation {place} of the image {raw.name!r}: {error}"
                break
        yield raw


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = image.get("width"), image.get("height")
    return (int(width), int(height)) if isinstance(width, (int, float)) and isinstance(height, (int, float)) else None


def _object(annotation: Mapping[str, Any], categories: Mapping[str, str], where: Location) -> RawObject:
    """One annotation's object, its box brought to corners. Raises ValueError."""
    key = annotation.get("category_id")
    if str(key) not in categories:
        hint = did_you_mean(str(key), categories) if key is not None else ""
        raise ValueError(f"the category id {key!r} is not among the categories. {hint}".strip())
    box = annotation.get("bbox")
    if box is None:
        box = _around(annotation.get("segmentation"))
    if not isinstance(box, (list, tuple)) or len(box) != 4:
        raise ValueError(f"the bbox is {box!r:.60}, expected [left, top, width, height].")
    left, top, width, height = (number(v) for v in box)
    area = annotation.get("area")
    known = isinstance(area, (int, float)) and not isinstance(area, bool) and 0 < area < float("inf")
    return RawObject(
        (left, top, left + width, top + height),
        categories[str(key)],
        crowd=bool(annotation.get("iscrowd", 0)),
        area=float(area) if known else None,  # pyright: ignore[reportArgumentType]
        location=where,
    )


def _around(polygons: Any) -> list[float] | None:
    """[left, top, width, height] around polygons [[x, y, x, y, ...], ...]; None where there are none."""
    if not isinstance(polygons, list) or not polygons or not all(isinstance(p, list) and len(p) > 5 for p in polygons):
        return None
    xs, ys = ([number(v) for p in polygons for v in p[first::2]] for first in (0, 1))
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
