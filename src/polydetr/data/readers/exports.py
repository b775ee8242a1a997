"""JSON lines as Prodigy (https://prodi.gy/docs/api-interfaces) and doccano write them, brought to usual rows. A row of
any other layout passes untouched.

| tool | in the file | in the row |
|---|---|---|
| Prodigy | ``spans`` of a text, ``accept`` (of options), ``spans`` of an image | ``entities``, ``label``, ``objects`` |
| doccano | ``entities`` with offsets, ``bbox`` of a ``filename`` | ``entities``, ``image`` and ``objects`` |

doccano's ``label: [[start, end, type], ...]`` and ``label: [class, ...]`` are usual as they are.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from polydetr.core.records import ReadReport
from polydetr.data.readers.outlines import around_points
from polydetr.errors import Location, RowError, quoted
from polydetr.values.boxes import number

REJECTED = "answers that were not accepted (left out)"
"""A kind of problem, as a ReadReport counts them."""
_ANSWERS = ("accept", "reject", "ignore")
_OF_PRODIGY = frozenset({"spans", "accept", "options", "tokens"})
_ABOUT = frozenset({"answer", "config", "options", "accept", "tokens", "spans", "priority", "score", "relations"})
"""Keys of Prodigy that are about the annotating, and those that are brought to another form."""
_MARKS = frozenset({"_task_hash", "_input_hash", "answer", "Comments", "bbox", "entities"})
"""A row of one of these layouts has one of these keys: most rows have none, and are not looked at further."""


def usual_export(row: Mapping[str, Any], location: Location, report: ReadReport) -> Mapping[str, Any] | None:
    """The row; None for one whose annotator did not accept it, which is told.

    Raises:
        RowError: a span or a box without numbers.
    """
    if _MARKS.isdisjoint(row):
        return row
    if _is_prodigy(row):
        answer = row.get("answer", "accept")
        if answer != "accept":
            report.note(REJECTED, f"answer {answer!r:.40}", location)
            return None
        return _of_prodigy(row)
    if "Comments" in row and row.keys() & {"label", "entities", "cats", "bbox"}:
        row = {name: value for name, value in row.items() if name != "Comments"}
    return _of_doccano(row)


def _is_prodigy(row: Mapping[str, Any]) -> bool:
    if "_task_hash" in row or "_input_hash" in row:
        return True
    return row.get("answer") in _ANSWERS and bool(row.keys() & _OF_PRODIGY)


def _of_prodigy(row: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in row.items() if name not in _ABOUT and not str(name).startswith("_")}
    spans, accepted = row.get("spans"), row.get("accept")
    if isinstance(accepted, list):
        config = row.get("config")
        is_single = isinstance(config, Mapping) and config.get("choice_style") == "single"
        if not is_single or len(accepted) == 1:
            kept["label"] = accepted[0] if is_single else accepted
    if isinstance(kept.get("image"), str):
        kept["image"] = _image(kept["image"])
        if isinstance(spans, list):
            kept["objects"] = [_object(span) for span in spans]
    elif isinstance(row.get("text"), str) and (spans or (isinstance(row.get("tokens"), list) and "label" not in kept)):
        kept["entities"] = [_span(span, "start", "end") for span in spans or []]
    return kept


def _of_doccano(row: Mapping[str, Any]) -> Mapping[str, Any]:
    boxes, entities = row.get("bbox"), row.get("entities")
    if isinstance(row.get("filename"), str) and isinstance(boxes, list) and all(map(_is_box, boxes)):
        rest = {name: value for name, value in row.items() if name not in ("filename", "bbox")}
        return {"image": row["filename"], "objects": [_object(box) for box in boxes], **rest}
    if (
        isinstance(entities, list)
        and entities
        and all(isinstance(e, Mapping) and "start_offset" in e for e in entities)
    ):
        rest = {name: value for name, value in row.items() if name != "relations"}
        return {**rest, "entities": [_span(entity, "start_offset", "end_offset") for entity in entities]}
    return row


def _is_box(box: Any) -> bool:
    return isinstance(box, Mapping) and {"x", "y", "width", "height", "label"} <= box.keys()


def _span(span: Any, start: str, end: str) -> dict[str, Any]:
    if not isinstance(span, Mapping) or not {start, end, "label"} <= span.keys():
        raise RowError(f"the span {quoted(span, 80)} lacks {start}, {end} or a label.")
    return {"start": span[start], "end": span[end], "label": span["label"]}


def _object(span: Any) -> dict[str, Any]:
    """A shape of an image as the box around it."""
    try:
        if not isinstance(span, Mapping) or not span.get("label"):
            raise ValueError("it has no label.")
        if {"x", "y", "width", "height"} <= span.keys():
            x, y, width, height = (number(span[name]) for name in ("x", "y", "width", "height"))
            return {"box": [x, y, x + width, y + height], "label": span["label"]}
        points = span.get("points")
        if not isinstance(points, list) or not points or not all(isinstance(p, list) and len(p) == 2 for p in points):
            raise ValueError("it has neither x, y, width, height nor points.")
        return {"box": list(around_points([number(v) for point in points for v in point])), "label": span["label"]}
    except ValueError as error:
        raise RowError(f"the shape {quoted(span, 80)}: {error}") from None


def _image(value: str) -> str | bytes:
    """The bytes of an image that is written into the row (data:image/png;base64,...); else its name."""
    if not value.startswith("data:image/"):
        return value
    try:
        return base64.b64decode(value.partition("base64,")[2], validate=True)
    except (binascii.Error, ValueError):
        raise RowError("its image is written into the row, but not in base64.") from None
