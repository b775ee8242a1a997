"""The parts of a heat map over an image that the HTML page and the PNG share: colors, outlines, caption."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from polydetr.errors import shown
from polydetr.reports.explained import ExplainedImage, Sources

STRONG = 0.5
"""Cells of at least this share of the strongest cell's score are outlined."""
_FOR, _AGAINST, _GAZE = (47, 109, 179), (217, 105, 30), (122, 44, 150)

Edge = tuple[tuple[int, int], tuple[int, int]]


def overlay(strength: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(H, W) in [-1, 1] → uint8 (H, W, 4): blue for, orange against, translucent."""
    color = np.where(strength[..., None] > 0, np.array(_FOR), np.array(_AGAINST))
    alpha = np.clip(np.abs(strength), 0, 1)[..., None] ** 0.8 * 0.8 * 255
    return np.concatenate((color, alpha), axis=-1).round().astype(np.uint8)


def gaze_overlay(gaze: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(H, W), not negative → uint8 (H, W, 4): purple, the more opaque the more attention a cell received."""
    share = gaze / (float(gaze.max()) or 1.0)
    color = np.broadcast_to(np.array(_GAZE), (*gaze.shape, 3))
    return np.concatenate((color, share[..., None] ** 0.6 * 0.85 * 255), axis=-1).round().astype(np.uint8)


def outline(chosen: NDArray[np.bool_]) -> list[Edge]:
    """The sides, each ((x, y), (x, y)) in cells, on which a chosen cell of (H, W) meets one that is not."""
    padded = np.pad(chosen, 1)
    across = np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1])  # between one row and the next
    down = np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1])
    edges: list[Edge] = [((int(x), int(y)), (int(x) + 1, int(y))) for y, x in across]
    return edges + [((int(x), int(y)), (int(x), int(y) + 1)) for y, x in down]


def caption(sources: Sources, image: ExplainedImage) -> str:
    """The heat map in words: the image's score and where its strongest cells lie."""
    several = sum(other.column == image.column for other in sources.images) > 1
    name = f"{shown(image.column, 60)}, image {image.index + 1}" if several else shown(image.column, 60)
    if float(np.abs(sources.strength(image)).max()) < STRONG:
        return f"{name}: {image.score:+.3f} in all; hardly matters"
    inside = image.gaze_inside
    if inside is not None:  # what is lost without single parts of an object does not add up
        return f"{name}; strongest: {image.place}; {inside:.0%} of the query's attention lies in the box"
    return f"{name}: {image.score:+.3f} in all; strongest: {image.place}"
