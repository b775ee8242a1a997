"""Boxes as data sets hold them, brought to (left, top, right, bottom) inside the image; what was repaired is reported.

Pixels count from 0 at the left and upper *edge*, so a box over a whole 640×480 image is [0, 0, 640, 480] and the
width of a box is right - left. Pascal VOC counts its pixels from 1, but the tools that write its files do not agree on
it; its numbers are taken as they stand, at most one pixel off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from polydetr.errors import RowError

ROUNDING = 0.05
"""Pixels by which a box may stand out of its image without a message: files round to two decimals."""
VISIBLE_SHARE = 0.3
"""Share of an object's area that must lie in its image, whole or cropped, for it to be learned there."""
SMALLEST_SIDE = 1.0
"""And no side of it may be shorter, in pixels of what the model sees."""
SWAPPED, CLIPPED, OUTSIDE, ZERO_AREA = (
    "swapped corners", "box clipped to its image", "box outside its image (left out)", "zero-area box (left out)"
)  # fmt: skip
"""Kinds of problems, as a ReadReport counts them."""


def number(value: Any) -> float:
    """Raises ValueError where it is not one; NaN passes, and is refused with its whole box."""
    if type(value) is float:
        return value
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a number.")
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):  # the last: a whole number of hundreds of digits
        raise ValueError(f"{value!r:.40} is not a number.") from None


def around_turned(box_xyxy: Sequence[float], degrees: float) -> tuple[float, float, float, float]:
    """The box around another one that was turned around its center."""
    left, top, right, bottom = box_xyxy
    sine, cosine = abs(math.sin(math.radians(degrees))), abs(math.cos(math.radians(degrees)))
    width, height = abs(right - left), abs(bottom - top)
    half_width, half_height = (width * cosine + height * sine) / 2, (width * sine + height * cosine) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    return x - half_width, y - half_height, x + half_width, y + half_height


def fit_shares(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Which boxes (..., 4) can be shares of their images: none of their numbers is far from 0..1."""
    return np.asarray(((boxes_xyxy >= -1) & (boxes_xyxy <= 2)).all(-1))


def are_shares(boxes_xyxy: np.ndarray) -> bool:
    """Whether the boxes (N, 4) of a data set are given as shares of their images: most of them can be, and they do not
    stand on whole numbers. One alone decides nothing: shares leave 0..1 by rounding, and pixels may lie in a corner.
    """
    near = boxes_xyxy[fit_shares(boxes_xyxy)]
    return 2 * len(near) > len(boxes_xyxy) and bool((near % 1 != 0).any())


def repair_box(
    box: Sequence[float], size: tuple[int, int] | None
) -> tuple[tuple[float, float, float, float] | None, list[tuple[str, str]]]:
    """The box repaired, or None where nothing of it is left, and what was done: (kind, sentence) pairs.

    box: left, top, right, bottom in pixels. size: (width, height) of the image; unknown, nothing is clipped.

    Corners in the wrong order are swapped, parts outside the image are cut off, a box without area is left out: it
    can be neither learned (its logarithm and its overlap are undefined) nor found.

    Raises:
        RowError: a coordinate is not a finite number. An object without a place cannot be left out, for the image
        would then teach that nothing is there; the caller refuses the image.
    """
    if not all(math.isfinite(v) for v in box):
        raise RowError(f"the box {_shown(box)} has a coordinate that is not a finite number.")
    left, top, right, bottom = box
    messages: list[tuple[str, str]] = []
    if right < left or bottom < top:
        messages.append((SWAPPED, f"the box {_shown(box)} has its corners in the wrong order; they were put right"))
        left, right, top, bottom = min(left, right), max(left, right), min(top, bottom), max(top, bottom)
    if right == left or bottom == top:
        return None, [*messages, (ZERO_AREA, f"the box {_shown(box)} has no area")]
    if size is not None:
        width, height = size
        beyond = max(-left, -top, right - width, bottom - height)
        left, top, right, bottom = max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height)
        if right <= left or bottom <= top:
            return None, [*messages, (OUTSIDE, f"the box {_shown(box)} lies outside its image of {width}×{height}")]
        if beyond > ROUNDING:
            messages.append(
                (CLIPPED, f"the box {_shown(box)} reaches {beyond:g} pixels out of its image of {width}×{height}")
            )
    return (float(left), float(top), float(right), float(bottom)), messages


def _shown(box: Sequence[float]) -> str:
    return "[" + ", ".join(f"{v:g}" for v in box) + "]"


def share_inside(box_xyxy: Sequence[float], cut_xyxy: Sequence[float]) -> float:
    """How much of a box's area is left in the part of it that was cut at the edges of its image."""
    (left, top, right, bottom), (x1, y1, x2, y2) = box_xyxy, cut_xyxy
    return (x2 - x1) * (y2 - y1) / abs((right - left) * (bottom - top))


def xyxy_to_cxcywh(boxes_xyxy: np.ndarray) -> np.ndarray:
    """(..., 4): left, top, right, bottom → center, width, height."""
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return np.concatenate(((low + high) / 2, high - low), axis=-1)


def cxcywh_to_xyxy(boxes_cxcywh: np.ndarray) -> np.ndarray:
    """(..., 4): center, width, height → left, top, right, bottom."""
    center, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return np.concatenate((center - half, center + half), axis=-1)


def seen_boxes(boxes_xyxy: np.ndarray, smallest: float) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (..., 4), as shares of an image, cut at its edges, and which of them (...) are still to be found.

    smallest: the shortest side that can be seen, as a share of the image.
    """
    low, high = np.maximum(boxes_xyxy[..., :2], 0.0), np.minimum(boxes_xyxy[..., 2:], 1.0)
    left = (high - low).clip(min=0)
    whole = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clip(min=0)
    kept = (left.prod(-1) > VISIBLE_SHARE * whole.prod(-1)) & (left.min(-1) >= smallest)
    return np.concatenate((low, np.maximum(low, high)), axis=-1), kept
