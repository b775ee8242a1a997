"""The objects of one image as a cell holds them, checked and repaired: boxes in its pixels, with labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from polydetr.errors import Location, RowError
from polydetr.values.boxes import (
    SMALLEST_SIDE,
    VISIBLE_SHARE,
    around_turned,
    number,
    repair_box,
    seen_boxes,
    share_inside,
)
from polydetr.values.cells import is_empty
from polydetr.values.framing import Frame

CROWD, MOSTLY_OUTSIDE, TOO_SMALL, CROPPED = "crowd", "mostly outside", "too small", "cropped"
"""Why objects that are measured cannot be learned; ``values.boxes`` has the kinds of those that are left out."""
_EXPECTED = (
    'Expected a list of {"box": [left, top, right, bottom] in pixels, "label": name}; [] where there is nothing.'
)
_NO = frozenset({"", "0", "0.0", "-1", "false", "f", "no", "n", "none", "null", "nan"})  # -1: Open Images' "unknown"
_YES = frozenset({"1", "1.0", "true", "t", "yes", "y"})


@dataclass(frozen=True)
class Objects:
    """items: {"box", "label", "crowd"?, "area"?, "inside"?}, as ``metrics.detection`` takes them; inside: the share of
    the object that lies in its image, where that is too little to be learned. messages: what was repaired.

    left_out: (kind, sentence) of each box that is no item, since nothing of it is left. unlearned: the index of each
    item that cannot be learned → (kind, sentence).
    """

    items: tuple[dict[str, Any], ...]
    messages: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    unlearned: Mapping[int, tuple[str, str]] = field(default_factory=dict)

    @property
    def labels(self) -> list[str]:
        """One per object."""
        return [item["label"] for item in self.items]

    @property
    def learned(self) -> list[dict[str, Any]]:
        """The items that can be learned."""
        return [item for i, item in enumerate(self.items) if i not in self.unlearned]

    @property
    def problems(self) -> list[str]:
        """What was repaired and what left out, one sentence each."""
        return [*self.messages, *(f"{sentence}; it is left out" for _, sentence in self.left_out)]

    @property
    def boxes_xyxy(self) -> np.ndarray:
        """float64 (N, 4), of all items."""
        return np.array([item["box"] for item in self.items], dtype=np.float64).reshape(-1, 4)

    def arrays(self, index: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
        """boxes_xyxy float64 (T, 4) in pixels and labels int64 (T,), of what can be learned; labels that ``index``
        does not know cannot be answered.
        """
        kept = [item for item in self.learned if item["label"] in index]
        boxes = np.array([item["box"] for item in kept], dtype=np.float64).reshape(-1, 4)
        return boxes, np.array([index[item["label"]] for item in kept], dtype=np.int64)

    def on_image(self, frame: Frame, pixels: int) -> Objects:
        """The objects compared with their image as the model sees it, ``pixels`` per side: boxes are cut at the edges
        of the image, and what is too small to be seen is not learned.
        """
        size = (round(frame.width), round(frame.height))
        cut = [repair_box(item["box"], size) for item in self.items]
        items, left_out, messages = [], list(self.left_out), list(self.messages)
        for item, (box, repairs) in zip(self.items, cut, strict=True):
            if box is None:
                left_out.append(repairs[-1])
                continue
            messages += [f"{item['label']}: {sentence}" for _, sentence in repairs]
            items.append({**item, "box": list(box), **mostly_outside(item["box"], box)})
        inside = Objects(tuple(items), tuple(messages), tuple(left_out), _unlearned(items))
        return replace(inside, unlearned=_unseen(inside, frame, pixels))


def _unseen(objects: Objects, frame: Frame, pixels: int) -> dict[int, tuple[str, str]]:
    """Index of an item → why it cannot be learned from its image, ``pixels`` per side as the model sees it."""
    shares = frame.to_shares(objects.boxes_xyxy)
    sides = (shares[:, 2:] - shares[:, :2]) * pixels
    _, kept = seen_boxes(shares, SMALLEST_SIDE / pixels)
    reasons = dict(objects.unlearned)
    for i in np.flatnonzero(~kept).tolist():
        left, top, right, bottom = objects.items[i]["box"]
        image = f"{right - left:g}×{bottom - top:g} of {frame.width:g}×{frame.height:g} pixels"
        seen = f"{sides[i, 0]:.2g}×{sides[i, 1]:.2g} of the {pixels}×{pixels} that the model sees"
        kind = TOO_SMALL if sides[i].min() < SMALLEST_SIDE else CROPPED
        reasons.setdefault(i, (kind, f"{objects.items[i]['label']}: {image}, {seen}"))
    return reasons


def _unlearned(items: Sequence[Mapping[str, Any]]) -> dict[int, tuple[str, str]]:
    """Index of an item → why it cannot be learned, whatever its image."""
    reasons = {}
    for i, item in enumerate(items):
        if item.get("crowd"):
            reasons[i] = (CROWD, f"{item['label']}: {item['box']}")
        elif "inside" in item:
            reasons[i] = (MOSTLY_OUTSIDE, f"{item['label']}: {item['inside']:.1%} of it lie in {item['box']}")
    return reasons


def mostly_outside(box_xyxy: Sequence[float], cut_xyxy: Sequence[float]) -> dict[str, float]:
    """{"inside": share} for a box of which so little lies in its image that it cannot be learned; else nothing."""
    share = share_inside(box_xyxy, cut_xyxy)
    return {"inside": round(share, 4)} if share <= VISIBLE_SHARE else {}


def is_crowd(value: Any) -> bool:
    """Whether a cell says that an object is a crowd, as a flag, a number or a word.

    Raises:
        ValueError: neither yes nor no.
    """
    if value is None or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    text = str(value).strip().lower()
    if text in _YES:
        return True
    if text in _NO:
        return False
    raise ValueError(f"{value!r:.40} is no answer to whether it is a crowd, expected 0 or 1.")


def turned(box_xyxy: Sequence[float], values: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    """The box around one that an annotation tool has turned by ``values["rotation"]``, in degrees; None where it has
    not.

    Raises:
        ValueError: an "angle", whose unit nothing says.
    """
    if "rotation" not in values and "angle" not in values:
        return None
    degrees, angle = (0.0 if is_empty(values.get(name)) else number(values[name]) for name in ("rotation", "angle"))
    if angle:
        raise ValueError(
            f"it is turned by angle = {values['angle']!r:.20}, whose unit is not known: call it 'rotation' where it is "
            "in degrees, or give the box around it."
        )
    return around_turned(box_xyxy, degrees) if degrees % 180 else None


def read_objects(value: Any, *, column: str) -> Objects:
    """The objects of a cell, a list of {"box", "label"}; their boxes are repaired as ``values.boxes.repair_box`` does,
    as far as that is possible without their image.

    Raises:
        RowError: it is no list of objects, or a box is not four finite numbers; names the object and the remedy.
    """
    location = Location(column=column)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Sequence):
        raise RowError(f"{value!r:.80} is no list of objects.", location=location, hint=_EXPECTED)
    items, messages, left_out = [], [], []
    for place, entry in enumerate(value, start=1):
        try:
            item, repairs = _object(entry)
        except ValueError as error:
            raise RowError(f"object {place}: {error}", location=location, hint=_EXPECTED) from None
        if item is None:
            left_out.append(repairs[-1])
        else:
            messages += [f"object {place}: {message}" for _, message in repairs]
            items.append(item)
    return Objects(tuple(items), tuple(messages), tuple(left_out), _unlearned(items))


def _object(entry: Any) -> tuple[dict[str, Any] | None, list[tuple[str, str]]]:
    """The item, None where nothing of its box is left, and what was repaired. Raises ValueError."""
    if not isinstance(entry, Mapping):
        raise ValueError(f"{entry!r:.80} is no mapping.")
    absent = next((part for part in ("box", "label") if entry.get(part) is None), None)
    if absent is not None:
        raise ValueError(f"there is no {absent!r} in {dict(entry)!r:.120}.")
    label = str(entry["label"]).strip()
    if not label:
        raise ValueError("its label is empty.")
    box = entry["box"].tolist() if isinstance(entry["box"], np.ndarray) else entry["box"]
    if isinstance(box, (str, bytes)) or not isinstance(box, Sequence) or len(box) != 4:
        raise ValueError(f"the box {box!r:.80} is not four numbers.")
    try:
        corners = [number(value) for value in box]
    except ValueError:
        raise ValueError(f"the box {list(box)!r:.80} is not four numbers.") from None
    around = turned(corners, entry)
    repaired, repairs = repair_box(around or corners, None)
    if around is not None:
        repairs.append(("turned", f"the box {corners} is turned: the box around it is taken"))
    if repaired is None:
        return None, repairs
    item: dict[str, Any] = {"box": list(repaired), "label": label}
    if is_crowd(entry.get("crowd", entry.get("iscrowd"))):
        item["crowd"] = True
    item |= {name: number(entry[name]) for name in ("area", "inside") if not is_empty(entry.get(name))}
    return item, repairs
