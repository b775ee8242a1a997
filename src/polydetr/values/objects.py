"""The objects of one image as a cell holds them, checked and repaired: boxes in its pixels, with labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from polydetr.errors import Location, RowError
from polydetr.values.boxes import repair_box

_EXPECTED = (
    'Expected a list of {"box": [left, top, right, bottom] in pixels, "label": name}; [] where there is nothing.'
)


@dataclass(frozen=True)
class Objects:
    """items: {"box", "label", "crowd"?, "area"?}, as ``metrics.detection`` takes them; messages: what was repaired."""

    items: tuple[dict[str, Any], ...]
    messages: tuple[str, ...] = ()

    @property
    def labels(self) -> list[str]:
        """One per object."""
        return [item["label"] for item in self.items]

    def arrays(self, index: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
        """boxes_xyxy float64 (T, 4) in pixels and labels int64 (T,), of what can be learned: crowds, regions of many,
        are no objects, and labels that ``index`` does not know cannot be answered.
        """
        kept = [item for item in self.items if not item.get("crowd") and item["label"] in index]
        boxes = np.array([item["box"] for item in kept], dtype=np.float64).reshape(-1, 4)
        return boxes, np.array([index[item["label"]] for item in kept], dtype=np.int64)


def read_objects(value: Any, *, column: str, size: tuple[int, int] | None = None) -> Objects:
    """The objects of a cell, a list of {"box", "label"}; their boxes are repaired as ``values.boxes.repair_box`` does.

    size: (width, height) of the image, where it is known: boxes are then cut at its edges.

    Raises:
        RowError: it is no list of objects, or a box is not four finite numbers; names the object and the remedy.
    """
    location = Location(column=column)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Sequence):
        raise RowError(f"{value!r:.80} is no list of objects.", location=location, hint=_EXPECTED)
    items, messages = [], []
    for place, entry in enumerate(value, start=1):
        try:
            item, repairs = _object(entry, size)
        except ValueError as error:
            raise RowError(f"object {place}: {error}", location=location, hint=_EXPECTED) from None
        messages += [f"object {place}: {message}" for message in repairs]
        if item is not None:
            items.append(item)
    return Objects(tuple(items), tuple(messages))


def _object(entry: Any, size: tuple[int, int] | None) -> tuple[dict[str, Any] | None, list[str]]:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{entry!r:.80} is no mapping.")
    absent = next((part for part in ("box", "label") if entry.get(part) is None), None)
    if absent is not None:
        raise ValueError(f"there is no {absent!r} in {dict(entry)!r:.120}.")
    label = str(entry["label"]).strip()
    if not label:
        raise ValueError("its label is empty.")
    box = entry["box"]
    if isinstance(box, (str, bytes)) or not hasattr(box, "__len__") or len(box) != 4:
        raise ValueError(f"the box {box!r:.80} is not four numbers.")
    try:
        numbers = [float(number) for number in box]
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"the box {list(box)!r:.80} is not four numbers.") from None
    repaired, repairs = repair_box(numbers, size)
    if repaired is None:
        return None, [f"{message}; it is left out" for _, message in repairs]
    item: dict[str, Any] = {"box": list(repaired), "label": label}
    if entry.get("crowd"):
        item["crowd"] = True
    if entry.get("area") is not None:
        item["area"] = float(entry["area"])
    return item, [message for _, message in repairs]
