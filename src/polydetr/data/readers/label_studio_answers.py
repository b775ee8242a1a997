"""What one annotation of Label Studio says, by the shape of its values (https://labelstud.io/guide/task_format):
classes, numbers, texts, spans of a text, boxes in an image. What is drawn otherwise, on sounds, films or pages, is
refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from polydetr.data.readers.boxes import RawObject, claimed_size
from polydetr.data.readers.outlines import Box, around_points
from polydetr.errors import quoted
from polydetr.values.boxes import number
from polydetr.values.spans import read_offset

_PLACED = ("x", "points", "rle", "vertices", "sequence")
"""Keys of a value that is drawn in an image or a film."""
_NO_BOXES = ("keypointlabels", "vectorlabels")
_MASKS = ("brushlabels", "bitmasklabels", "magicwandlabels")
_SINGLE = ("rating", "number", "datetime", "selected")
"""Keys of values that hold one answer each."""


@dataclass(frozen=True)
class Region:
    """One result: the control tag that made it ("from_name"), what it is about ("to_name"), its value; the id that a
    shape and its label share.
    """

    control: str
    about: str
    value: Mapping[str, Any]
    id: Any = None


@dataclass(frozen=True)
class MarkedSpan:
    """A span as it was marked: by which control, in which object, its text as the tool copied it (None: not at all)."""

    control: str
    about: str
    start: int
    end: int
    label: str
    text: str | None


@dataclass
class Answers:
    """What an annotation says. columns: control → its answers, as a list. objects: boxes in percent of the image.
    about: what the boxes lie in ("to_name"). notes: (kind, sentence) of what is not read.
    """

    columns: dict[str, list[Any]] = field(default_factory=dict)
    spans: list[MarkedSpan] = field(default_factory=list)
    objects: list[RawObject] = field(default_factory=list)
    about: str | None = None
    size: tuple[int, int] | None = None
    notes: list[tuple[str, str]] = field(default_factory=list)


def regions_of(result: Any) -> Iterator[Region]:
    """The results of an annotation; relations between them, which have no value, are passed over. Raises ValueError."""
    if not isinstance(result, list):
        raise ValueError(f"its result is {quoted(result, 60)}, expected a list.")
    for place, one in enumerate(result, 1):
        if not isinstance(one, Mapping):
            raise ValueError(f"result {place} is {quoted(one, 60)}, expected a mapping.")
        if one.get("type") == "relation":
            continue
        value = one.get("value")
        if not isinstance(value, Mapping):
            raise ValueError(f"result {place} has the value {quoted(value, 60)}, expected a mapping.")
        control = str(one.get("from_name") or one.get("type") or "label")
        yield Region(control, str(one.get("to_name") or ""), {**_sizes(one), **value}, one.get("id"))


def _sizes(one: Mapping[str, Any]) -> dict[str, Any]:
    return {name: one[name] for name in ("original_width", "original_height") if name in one}


def is_answer(value: Any) -> bool:
    """Whether a value of JSON-MIN, which has answers among the data, is an answer of a control."""
    if isinstance(value, list) and value:
        return all(isinstance(one, str) or is_answer(one) for one in value) and any(map(is_answer, value))
    if not isinstance(value, Mapping):
        return False
    return any(name in value for name in ("choices", "taxonomy", *_SINGLE)) or _label_key(value) is not None


def regions_of_minimal(control: str, value: Any) -> Iterator[Region]:
    """The results that JSON-MIN keeps of one control."""
    for one in value if isinstance(value, list) else [value]:
        yield Region(control, "", {"choices": [one]} if isinstance(one, str) else one)


def answers_of(regions: Iterable[Region]) -> Answers:
    """What the results say together.

    Raises:
        ValueError: a shape without a label, or that is no box; a span that counts no characters.
    """
    answers = Answers()
    every = list(regions)
    labeled = {region.id for region in every if region.id is not None and _label_key(region.value)}
    for region in every:
        value, key = region.value, _label_key(region.value)
        if key is not None and any(name in value for name in _PLACED):
            _add_object(answers, region, key)
        elif key is not None:
            _add_spans(answers, region, value[key])
        elif any(name in value for name in (*_PLACED, "start")):
            if region.id not in labeled:
                if not _holds_answer(value):
                    raise ValueError(f"a region of {region.control!r} has no label.")
                answers.notes.append(("answers about one region (not read)", f"{region.control!r} has one"))
        else:
            _add_answer(answers, region)
    return answers


def _label_key(value: Mapping[str, Any]) -> str | None:
    """The key of the labels of a region: labels, rectanglelabels, ...; None where it has none."""
    return next((k for k in value if isinstance(k, str) and k.endswith("labels") and value[k]), None)


def _holds_answer(value: Mapping[str, Any]) -> bool:
    return any(name in value for name in ("choices", "taxonomy", "text", *_SINGLE))


def _labels(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(label, (str, int, float)) for label in value):
        raise ValueError(f"its labels are {quoted(value, 60)}, expected a list of names.")
    return [str(label) for label in value]


def _add_answer(answers: Answers, region: Region) -> None:
    value = region.value
    if "choices" in value:
        found: list[Any] = _labels(value["choices"])
    elif "taxonomy" in value:
        paths = value["taxonomy"]
        if not isinstance(paths, list):
            raise ValueError(f"its taxonomy is {quoted(paths, 60)}, expected a list of paths.")
        found = ["/".join(_labels(path)) for path in paths]
    elif "text" in value:
        found = value["text"] if isinstance(value["text"], list) else [value["text"]]
    else:
        found = [value[name] for name in _SINGLE if name in value]
        if not found:
            kinds = ", ".join(map(str, value)) or "nothing"
            answers.notes.append(("results that are not read", f"{region.control!r} holds {kinds:.80}"))
            return
    answers.columns.setdefault(region.control, []).extend(found)


def _add_spans(answers: Answers, region: Region, labels: Any) -> None:
    value = region.value
    if "globalOffsets" in value or "startOffset" in value:
        raise ValueError(
            f"{region.control!r} marks parts of a page (HyperText) or of a dialogue, of which plain text has no place; "
            "label it as Text."
        )
    try:
        start, end = read_offset(value.get("start")), read_offset(value.get("end"))
    except (TypeError, ValueError):
        start = end = None
    if start is None or end is None:
        raise ValueError(
            f"{region.control!r} has a span from {value.get('start')!r:.40} to {value.get('end')!r:.40}, expected "
            "numbers of characters (sounds and time series are not read)."
        )
    copied = value.get("text")
    text = copied if isinstance(copied, str) else None
    answers.spans += [MarkedSpan(region.control, region.about, start, end, label, text) for label in _labels(labels)]


def _add_object(answers: Answers, region: Region, key: str) -> None:
    value = region.value
    if key in _NO_BOXES or "vertices" in value:
        answers.notes.append(("shapes that are no boxes (left out)", f"{region.control!r}: {key}"))
        return
    if key in _MASKS or "rle" in value or "sequence" in value:
        what = "tracks of a film" if "sequence" in value else "masks (brush)"
        raise ValueError(f"{region.control!r} holds {what}, which are not read: draw boxes or polygons.")
    if answers.about and region.about not in ("", answers.about):
        raise ValueError(
            f"boxes are drawn in {answers.about!r} and {region.about!r}, of which a row has one: make a task of each "
            "image."
        )
    size = claimed_size(value.get("original_width"), value.get("original_height"))
    box, is_turned = _box(value, size)
    shares = [side / 100 for side in box]
    answers.objects += [RawObject(shares, label, turned=is_turned) for label in _labels(value[key])]
    answers.size, answers.about = size or answers.size, region.about or answers.about


def _box(value: Mapping[str, Any], size: tuple[int, int] | None) -> tuple[Box, bool]:
    """Left, top, right, bottom in percent of the image around a rectangle, an ellipse or a polygon, and whether it was
    turned. size: of the image in pixels. Raises ValueError.
    """
    if "points" in value:
        points = value["points"]
        if not isinstance(points, list) or not points or not all(isinstance(p, list) and len(p) == 2 for p in points):
            raise ValueError(f"the points {points!r:.60} are no list of [x, y].")
        return around_points([number(side) for point in points for side in point]), False
    radii = "radiusX" in value
    names = ("x", "y", "radiusX", "radiusY") if radii else ("x", "y", "width", "height")
    x, y, a, b = (number(value.get(name)) for name in names)
    degrees = number(value.get("rotation") or 0)
    if not math.isfinite(degrees):
        raise ValueError(f"the rotation is {degrees!r}, expected degrees.")
    if not degrees % 360:
        return ((x - a, y - b, x + a, y + b) if radii else (x, y, x + a, y + b)), False
    if size is None:
        raise ValueError("it is turned, and without original_width and original_height its place is not known.")
    return _around_turned(x, y, a, b, degrees, size, is_ellipse=radii), True


def _around_turned(
    x: float, y: float, a: float, b: float, degrees: float, size: tuple[int, int], *, is_ellipse: bool
) -> Box:
    """Around a rectangle that is turned clockwise about its corner (x, y), as Label Studio turns it, or an ellipse
    about its center; all in percent. An angle is one of pixels, so that they are needed in between.
    """
    width, height = size
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    a, b = a / 100 * width, b / 100 * height
    if is_ellipse:
        right, bottom = math.hypot(a * cosine, b * sine), math.hypot(a * sine, b * cosine)
        corners = [(-right, -bottom), (right, bottom)]
    else:
        corners = [
            (0, 0),
            (a * cosine, a * sine),
            (-b * sine, b * cosine),
            (a * cosine - b * sine, a * sine + b * cosine),
        ]
    return around_points([v for dx, dy in corners for v in (x + 100 * dx / width, y + 100 * dy / height)])
