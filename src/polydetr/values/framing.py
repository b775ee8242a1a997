"""How an image is laid into the square that a model sees, and where its pixels then lie."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

Fit = Literal["stretch", "crop", "pad"]
FILL = (124, 116, 104)
SHOWN = 480
"""The longer side of an image that is shown."""
FULL_SIZE = "polydetr full size"
"""Where an image says how large its file is, if it was decoded at a fraction of that."""


def fit_image(image: Image.Image, size: int, *, fit: Fit, fill: tuple[int, int, int] = FILL) -> np.ndarray:
    """An image in mode RGB as uint8 (size, size, 3), smoothed on the way down (Pillow's bilinear filter).

    "stretch" changes the proportions; "crop" keeps the middle square; "pad" keeps all and lays it on the middle of a
    square of the color ``fill`` (ImageNet's mean, which a backbone sees as zero). Padding is not masked.
    """
    width, height = image.size
    bilinear = Image.Resampling.BILINEAR
    if fit == "stretch" or width == height:
        return np.asarray(image.resize((size, size), bilinear))
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return np.asarray(image.resize((size, size), bilinear, box=(left, top, left + side, top + side)))
    scale = size / max(width, height)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    canvas = Image.new("RGB", (size, size), fill)
    canvas.paste(image.resize(inner, bilinear), ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return np.asarray(canvas)


def shown_part(image: Image.Image, *, fit: Fit, fill: tuple[int, int, int] = FILL) -> np.ndarray:
    """What a model reads of an image in mode RGB, uint8 (h, w, 3), to be shown: in the proportions of the image."""
    if fit == "stretch":
        image = image.copy()
        image.thumbnail((SHOWN, SHOWN), Image.Resampling.BILINEAR)
        return np.asarray(image)
    sides = (min if fit == "crop" else max)(image.size)
    return fit_image(image, min(SHOWN, sides), fit=fit, fill=fill)


class Frame(NamedTuple):
    """Where :func:`fit_image` lays an image: share = scale · pixel + shift takes pixels of the image (as it was before
    it was decoded at a fraction of its size, see ``ImageReading.at_least``) to shares of what the model sees. All zero
    stands for no image. As an array: float32 (6,), in this order.
    """

    scale_x: float
    scale_y: float
    shift_x: float
    shift_y: float
    width: float
    height: float

    def to_shares(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """(..., 4) in pixels → as shares."""
        return boxes_xyxy * np.tile(self._array[:2], 2) + np.tile(self._array[2:4], 2)

    def to_pixels(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """(..., 4) as shares → in pixels, inside the image."""
        pixels = (boxes_xyxy - np.tile(self._array[2:4], 2)) / np.tile(self._array[:2], 2)
        return pixels.clip(0, np.tile(self._array[4:], 2))

    @property
    def _array(self) -> np.ndarray:
        return np.array(self, dtype=np.float32)


def frame_of(image: Image.Image, *, fit: Fit) -> Frame:
    """Where :func:`fit_image` lays an image from :func:`open_image`, in pixels of its file, upright.

    Exact to a pixel of the result, and to the precision of float32.
    """
    sides = np.array(image.info.get(FULL_SIZE, image.size))
    share = {"stretch": sides / sides, "crop": sides / sides.min(), "pad": sides / sides.max()}[fit]
    numbers = np.concatenate([share / sides, (1 - share) / 2, sides])
    return Frame(*numbers.astype(np.float32).tolist())
