"""COCO JSON (https://cocodataset.org/#format-data): images, annotations and categories in one document.

Ids may be numbers or strings, dense or not: they serve to join the three lists; rows carry names alone.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from polydetr.core.access import IN_MEMORY, FileAccess
from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.boxes import ImageFinder, RawImage, RawObject, claimed_size, records_of
from polydetr.data.readers.outlines import Box, around_segmentation
from polydetr.data.readers.source import Source, leave_out, reject
from polydetr.errors import DataFileError, Location, RowError, did_you_mean, quoted
from polydetr.values.boxes import are_shares, number
from polydetr.values.objects import is_crowd, turned


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
    _refuse_shares(document.get("annotations") or [], location)
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
    if not isinstance(document.get("categories") or [], list):
        raise DataFileError(f"categories is {quoted(document['categories'])}, expected a list.", location=location)
    for place, category in enumerate(document.get("categories") or (), 1):
        if not isinstance(category, Mapping) or "id" not in category:
            raise DataFileError(f"category {place} ({quoted(category, 60)}) has no id.", location=location)
        key, label = str(category["id"]), str(category.get("name") or category["id"])
        if names.setdefault(key, label) != label:
            raise DataFileError(
                f"the category id {quoted(category['id'])} stands for both {quoted(names[key])} and {quoted(label)}.",
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
            reason = f"annotation {place} ({quoted(annotation, 60)}) has no image_id."
            leave_out("annotation of no image (left out)", reason, location, report, skip=skip)
            continue
        if str(annotation["image_id"]) not in known:
            reason = f"annotation {place} belongs to the image {quoted(annotation['image_id'])}, which is not listed."
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
        try:
            if not isinstance(image, Mapping) or "id" not in image or not image.get("file_name"):
                raise RowError(f"image {row} ({quoted(image, 60)}) lacks an id or a file_name.")
            key, name = str(image["id"]), str(image["file_name"])
            if key in used_ids:
                raise RowError(
                    f"the image id {quoted(image['id'])} was given to another image before ({quoted(name)} now)."
                )
            used_ids.add(key)
            raw = RawImage(name, where, image_id=image["id"])
            try:
                raw.size = claimed_size(image.get("width"), image.get("height"))
            except ValueError as error:
                raw.fault = f"the image {quoted(name)}: {error}"
            for place, annotation in by_image.get(key, ()):
                try:
                    raw.objects.append(_object(annotation, categories, where))
                except ValueError as error:
                    raw.fault = f"annotation {place} of the image {quoted(name)}: {error}"
                    break
        except BaseException as error:
            reject(error, where, report, skip=skip)
            continue
        yield raw


def _object(annotation: Mapping[str, Any], categories: Mapping[str, str], where: Location) -> RawObject:
    """One annotation's object, its box brought to corners. Raises ValueError."""
    key = annotation.get("category_id")
    if str(key) not in categories:
        hint = did_you_mean(str(key), categories) if key is not None else ""
        raise ValueError(f"the category id {quoted(key)} is not among the categories. {hint}".strip())
    attributes = annotation.get("attributes")
    box = _box(annotation)
    around = turned(box, {**annotation, **attributes} if attributes and isinstance(attributes, dict) else annotation)
    area = annotation.get("area")
    known = isinstance(area, (int, float)) and not isinstance(area, bool) and 0 < area < sys.float_info.max
    return RawObject(
        (around_segmentation(annotation.get("segmentation")) or around) if around else box,
        categories[str(key)],
        crowd=is_crowd(annotation.get("iscrowd")),
        area=float(area) if known else None,  # pyright: ignore[reportArgumentType]
        location=where,
        turned=around is not None,
    )


def _box(annotation: Mapping[str, Any]) -> Box:
    """Left, top, right, bottom of the bbox; of the outline where there is none, or one without area. Raises
    ValueError.
    """
    box = annotation.get("bbox")
    if isinstance(box, (list, tuple)) and len(box) == 4:
        left, top, width, height = (number(value) for value in box)
        if (width and height) or not annotation.get("segmentation"):
            return left, top, left + width, top + height
    elif box:
        turned_too = ", or is it turned? Give the box around it" if isinstance(box, list) and len(box) == 5 else ""
        raise ValueError(f"the bbox is {box!r:.60}, expected [left, top, width, height]{turned_too}.")
    around = around_segmentation(annotation.get("segmentation"))
    if around is None:
        points = " but key points" if annotation.get("keypoints") else ""
        raise ValueError(f"the bbox is {box!r:.60}, and there is nothing else{points} to take a box from.")
    return around


def _refuse_shares(annotations: list[Any], location: Location) -> None:
    """Raises DataFileError where boxes are given as shares of their images: COCO's are pixels."""
    boxes = [a.get("bbox") for a in annotations if isinstance(a, dict)]
    numbers = [box for box in boxes if isinstance(box, list) and len(box) == 4]
    try:
        array = np.array(numbers, dtype=np.float64).reshape(-1, 4)
    except (TypeError, ValueError, OverflowError):  # told with its annotation
        return
    if are_shares(array):
        raise DataFileError(
            f"the boxes lie between 0 and 1, as shares of their images do (the first is {numbers[0]}); COCO's are "
            "[left, top, width, height] in pixels.",
            location=location,
            hint="Multiply them by the width and height of their images; a table of boxes (CSV) may hold shares.",
        )
