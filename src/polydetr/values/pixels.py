"""What decoded pixels become: 8 bits per channel, over white. In strips, so that few copies in full size are needed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from PIL import Image

_STRIP = 1 << 20
"""Pixels that are converted at once."""


class Levels(NamedTuple):
    """The values of an image of 16 bits that become black and white; those between are spread evenly, those beyond are
    cut off.
    """

    black: int = 0
    white: int = 65535

    @classmethod
    def of(cls, values: np.ndarray) -> Levels:
        """What suits images of such values: all that 16 bits can hold where they use half of that or more, else their
        own range. Cameras fill 10, 12 or 14 bits, or a small part of 16; single dead pixels do not count.
        """
        low, high = np.quantile(values, (0.0005, 0.9995))
        margin = 0.1 * (high - low)
        black, white = int(max(values.min(), low - margin)), int(min(values.max(), high + margin))
        return cls(black, white) if 0 < white - black < 32768 else cls()

    def outside(self, array: np.ndarray) -> float:
        """The share of the values that is cut off."""
        if self == ALL_LEVELS:
            return 0.0
        beyond = sum(np.count_nonzero((part < self.black) | (part > self.white)) for part in _strips(array))
        return beyond / array.size

    def to_uint8(self, array: np.ndarray) -> np.ndarray:
        """Integers from 0 to 65535 → 0 … 255."""
        span = self.white - self.black
        values = np.arange(65536, dtype=np.int64).clip(self.black, self.white) - self.black
        table = ((values * 255 + span // 2) // span).astype(np.uint8)
        return _by_strips(array, lambda part: table[part])


ALL_LEVELS = Levels()


def floats_to_uint8(array: np.ndarray) -> np.ndarray:
    """Floats from 0 to 1 → 0 … 255."""
    return _by_strips(array, lambda part: (part * 255 + 0.5).astype(np.uint8))


def over_white(image: Image.Image) -> Image.Image:
    """A transparent image as it looks on white, in mode RGB."""
    shown = Image.new("RGB", image.size)
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height))).convert("RGBA")
        white = Image.new("RGBA", strip.size, (255, 255, 255, 255))
        shown.paste(Image.alpha_composite(white, strip).convert("RGB"), (0, top))
    return shown


def _strips(array: np.ndarray) -> Iterator[np.ndarray]:
    """The array in parts of some rows each."""
    rows = max(1, _STRIP // max(1, array[0].size))
    return (array[start : start + rows] for start in range(0, len(array), rows))


def _by_strips(array: np.ndarray, convert: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    out = np.empty(array.shape, dtype=np.uint8)
    for source, target in zip(_strips(array), _strips(out), strict=True):
        target[...] = convert(source)
    return out


class Room:
    """Lets images be decoded at once, in any number of threads, as long as they have ``pixels`` together; a larger one
    is decoded alone. Whoever comes first is let in first, so that a large one is not kept waiting by small ones.
    """

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels
        self._empty()
        if hasattr(os, "register_at_fork"):  # what other threads held, they do not hold in a child
            os.register_at_fork(after_in_child=self._empty)

    def _empty(self) -> None:
        self._taken, self._turn, self._left = 0, threading.Lock(), threading.Condition()

    @contextmanager
    def take(self, pixels: int) -> Iterator[None]:
        """Waits until there is room, and holds it during the block, in which no other room may be taken."""
        left = self._left
        with self._turn, left:
            left.wait_for(lambda: not self._taken or self._taken + pixels <= self.pixels)
            self._taken += pixels
        try:
            yield
        finally:
            with left:
                self._taken -= pixels
                left.notify_all()
