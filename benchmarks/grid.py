"""Many small images in one PNG file."""

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
    """Writes rows of images, all of one size, as one PNG; a shorter row ends in empty places.

    scale: pixels per side that each pixel becomes, unsmoothed; gap: pixels of ``shade`` between images.

    Raises:
        InputError: there is no image, or they differ in size. SaveError: the file cannot be written.
    """
    images = [image for row in rows for image in row]
    shapes = sorted({image.shape for image in images})
    if len(shapes) != 1 or scale < 1:
        raise InputError(f"a grid needs images of one shape and scale at least 1; found {shapes[:3]}, scale={scale}.")
    large = [[np.repeat(np.repeat(_three(p), scale, 0), scale, 1) for p in row] for row in rows]
    height, width = (side * scale for side in shapes[0][:2])
    columns = max(len(row) for row in rows)
    sheet = np.full((len(rows) * (height + gap) + gap, columns * (width + gap) + gap, 3), shade, dtype=np.uint8)
    for i, row in enumerate(large):
        for j, image in enumerate(row):
            top, left = gap + i * (height + gap), gap + j * (width + gap)
            sheet[top : top + height, left : left + width] = image
    gray = bool((sheet == sheet[..., :1]).all())
    return save_bytes(path, png_bytes(sheet[..., 0] if gray else sheet))


def _three(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) of an image with one channel or three."""
    if image.ndim == 2:
        image = image[..., None]
    return np.broadcast_to(image, (*image.shape[:2], 3))
