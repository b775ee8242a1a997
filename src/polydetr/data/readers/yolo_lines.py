"""Lines of a YOLO label file: class, center x, center y, width, height as shares of the image; with key points behind
them where data.yaml has a ``kpt_shape``; or an outline: class, x, y, x, y, ...

A longer line does not say which it is, and other tools put a score or the number of a track behind the box. All lines
of a set are looked at together: outlines have as many corners as they need, and do not cross themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from polydetr.data.readers.outlines import Box, around_points
from polydetr.values.boxes import number

_BEYOND = 0.01
"""By how much a share may leave 0..1 before the file is taken to hold pixels; what leaves it by less is clipped."""
_EXPECTED = "expected class, center x, center y, width, height"
_LOOKED_AT = 500  # lines that all have the same number of values
_CROSSED = 0.1  # share of outlines that annotators may have drawn across themselves


@dataclass(frozen=True)
class ClassNames:
    """Class number → name, from the file ``named_in``; both empty where no file names the classes."""

    names: Mapping[int, str]
    named_in: str = ""

    def label(self, text: str) -> str:
        """The name of a class. Raises ValueError."""
        value = number(text)
        if not value.is_integer() or value < 0:
            raise ValueError(f"the class is {text!r:.40}, expected a whole number from 0.")
        if not self.names:
            return str(int(value))
        if int(value) not in self.names:
            low, high = min(self.names), max(self.names)
            raise ValueError(f"the class {int(value):g} is not among those of {self.named_in} ({low} to {high}).")
        return self.names[int(value)]


def box_of(cells: list[str], keypoints: int | None) -> tuple[Box, bool]:
    """Left, top, right, bottom of a line's object as shares of the image, and whether it is an outline.

    keypoints: how many numbers follow the box in this set; None: not known. Raises ValueError.
    """
    many = len(cells)
    if many == 1 and "," in cells[0]:
        raise ValueError(f"the numbers are parted by commas ({cells[0][:60]}), expected spaces.")
    outline = keypoints is None and many >= 7 and many % 2 == 1
    if many != 5 and not outline and many != 5 + (keypoints or 0):
        more = f", and {keypoints} numbers of key points (kpt_shape)" if keypoints else ""
        score = " A sixth value may be a score: keep the first five." if many == 6 else ""
        raise ValueError(f"{many} values ({' '.join(cells)[:60]}), {_EXPECTED}{more}.{score}")
    values = [number(cell) for cell in (cells[1:] if outline else cells[1:5])]
    wrong = next((v for v in values if v > 1 + _BEYOND or v < -_BEYOND), None)
    if wrong is not None:
        raise ValueError(
            f"{wrong:g} is no share of the image; YOLO labels lie between 0 and 1, these look like pixels."
        )
    if outline:
        return around_points(values), True
    x, y, width, height = values
    return (x - width / 2, y - height / 2, x + width / 2, y + height / 2), False


def doubt_of(lines: Iterable[list[str]]) -> str:
    """Why the long ones among the lines of a set are no outlines, "" where they can be."""
    alike: list[list[float]] = []
    for cells in lines:
        if len(cells) < 7 or len(cells) % 2 == 0:
            continue
        if alike and len(cells) != len(alike[0]) + 1:
            return ""
        with suppress(ValueError):  # told with its line
            values = [number(cell) for cell in cells[1:]]
            if all(map(math.isfinite, values)):
                alike.append(values)
        if len(alike) == _LOOKED_AT:
            break
    return _doubt(np.array(alike)) if alike else ""


def _doubt(values: np.ndarray) -> str:
    """values: (N, V), the lines without their class, all of the same length."""
    center, half, rest = values[:, :2], values[:, 2:4] / 2, values[:, 4:]
    if not ((center - half > -0.02) & (center + half < 1.02) & (half >= 0)).all():
        return ""  # the first four numbers are not always a box
    if rest.shape[1] == 2 and (rest[:, 1] % 1 == 0).all():
        what = "a score and the number of a track: keep the first five values"
    elif rest.shape[1] % 3 == 0 and np.isin(rest[:, 2::3], (0, 1, 2)).all():
        what = f"key points: add kpt_shape: [{rest.shape[1] // 3}, 3] to data.yaml"
    elif rest.shape[1] == 2 and (abs(rest - center) <= half).all():
        what = "one key point: add kpt_shape: [1, 2] to data.yaml"
    elif _cross_themselves(values.reshape(len(values), -1, 2)).mean() > _CROSSED:
        what = f"key points: add kpt_shape: [{rest.shape[1] // 2}, 2] to data.yaml"
    else:
        return ""
    return f"{values.shape[1] + 1} values, which as an outline make no sense. They may be a box and {what}."


def _cross_themselves(corners: np.ndarray) -> np.ndarray:
    """Which outlines (N, P, 2) have two sides that touch without being neighbors: bool (N,)."""
    if (corners[:, 0] == corners[:, -1]).all():  # closed by their first corner
        corners = corners[:, :-1]
    starts, ends, count = corners, np.roll(corners, -1, axis=1), corners.shape[1]

    def side(points: np.ndarray) -> np.ndarray:
        """(N, P, P): on which side of side i point j lies."""
        along, to = (ends - starts)[:, :, None], points[:, None] - starts[:, :, None]
        return np.sign(along[..., 0] * to[..., 1] - along[..., 1] * to[..., 0])

    parted = side(starts) * side(ends) <= 0  # side j begins and ends on different sides of side i
    gap = (np.arange(count)[:, None] - np.arange(count)) % count
    return (parted & parted.transpose(0, 2, 1) & (gap > 1) & (gap < count - 1)).any(axis=(1, 2))
