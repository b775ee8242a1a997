"""Pictures as files: one PNG, or a grid of many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from polydetr.core.files import save_bytes
from polydetr.errors import InputError
from polydetr.values.images import png_bytes


def grid_png(
    rows: Sequence[Sequence[np.ndarray]], path: str | Path, *, scale: int = 1, gap: int = 2, shade: int = 255
) -> Path:
    """Writes rows of pictures, all of one size, as one PNG; a shorter row ends in empty places.

    scale: pixels a side that each pixel becomes, unsmoothed; gap: pixels of ``shade`` between pictures.

    Raises:
        InputError: there is no picture, or they differ in size. SaveError: the file cannot be written.
    """
    pictures = [picture for row in rows for picture in row]
    shapes = sorted({picture.shape for picture in pictures})
    if len(shapes) != 1 or scale < 1:
        raise InputError(f"a grid needs pictures of one shape and scale at least 1; found {shapes[:3]}, scale={scale}.")
    large = [[np.repeat(np.repeat(_three(p), scale, 0), scale, 1) for p in row] for row in rows]
    height, width = (side * scale for side in shapes[0][:2])
    columns = max(len(row) for row in rows)
    sheet = np.full((len(rows) * (height + gap) + gap, columns * (width + gap) + gap, 3), shade, dtype=np.uint8)
    for i, row in enumerate(large):
        for j, picture in enumerate(row):
            top, left = gap + i * (height + gap), gap + j * (width + gap)
            sheet[top : top + height, left : left + width] = picture
    grey = bool((sheet == sheet[..., :1]).all())
    return save_bytes(path, png_bytes(sheet[..., 0] if grey else sheet))


def _three(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) of a picture with one channel or three."""
    if picture.ndim == 2:
        picture = picture[..., None]
    return np.broadcast_to(picture, (*picture.shape[:2], 3))
