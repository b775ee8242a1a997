"""Other pictures whose objects can be followed: four put together into one, shown smaller, then varied as all are.

Sources: mosaic, Bochkovskiy et al. 2020, arXiv 2004.10934, section 3.3; scale jitter (zoom out), Liu et al. 2016,
arXiv 1512.02325, section 3.6, which makes the small objects that a small data set lacks. A mosaic shows up to four
times as many objects at once, and so as many matches for a detector to learn from.

Shapes: B pictures (B, 3, S, S) uint8; K = 4 parts of each.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from polydetr.embedders.image_augment import ImageAugment
from polydetr.nn.batch import Scene

_PARTS = 4
_CENTRE = (0.3, 0.7)
_SMALLEST_TILE = 0.5
"""Side of a picture inside a mosaic, as a share of its own; the largest is 1, of which the corner is seen."""
OFF_FROM = 0.85
"""Of the training: the last steps see pictures as they are (Ge et al. 2021, arXiv 2107.08430)."""


class _Tile(NamedTuple):
    """Picture ``source``, ``side`` pixels a side, with its corner at (left, top), seen inside ``window`` (pixels)."""

    source: int
    side: int
    left: int
    top: int
    window: tuple[int, int, int, int]


class SceneAugment:
    """mosaic: share of the pictures that are put together from four. zoom: smallest side of a picture that is shown
    smaller, 1 = off; half of those that are no mosaic are. varied: what is done to all of them then. fill: the colour
    beside pictures.
    """

    def __init__(self, varied: ImageAugment, *, mosaic: float, zoom: float, fill: tuple[int, int, int]) -> None:
        self.varied, self.mosaic, self.zoom, self.fill = varied, mosaic, zoom, fill

    def __call__(self, pixels: Tensor, generator: torch.Generator, progress: float = 0.0) -> tuple[Tensor, Scene]:
        """(B, 3, S, S) and what it shows. Chance is drawn from the generator alone."""
        size, on = pixels.shape[-1], progress < OFF_FROM
        tiles = [self._tiles(i, len(pixels), size, generator) if on else [] for i in range(len(pixels))]
        shown = pixels.clone()
        for picture, parts in zip(shown, tiles, strict=True):
            if parts:
                self._paint(picture, parts, pixels)
        scene = _scene([parts or [_whole(i, size)] for i, parts in enumerate(tiles)], size)
        found = self.varied(shown, generator)
        return found.pixels, _moved(scene, found.affine)

    def _tiles(self, own: int, count: int, size: int, generator: torch.Generator) -> list[_Tile]:
        """The parts of a picture; none where it stays whole."""
        draws = torch.rand(8, generator=generator).tolist()
        if count > 1 and draws[0] < self.mosaic:
            others = torch.randint(0, count, (_PARTS - 1,), generator=generator).tolist()
            low, high = _CENTRE
            x, y = (round(size * (low + (high - low) * draw)) for draw in draws[1:3])
            return [_corner(k, [own, *others][k], draws[3 + k], (x, y), size) for k in range(_PARTS)]
        if self.zoom < 1 and draws[1] < 0.5:
            side = max(1, round(size * (self.zoom + (1 - self.zoom) * draws[2])))
            left, top = (round((size - side) * draw) for draw in draws[3:5])
            return [_Tile(own, side, left, top, (left, top, left + side, top + side))]
        return []

    def _paint(self, canvas: Tensor, parts: list[_Tile], pixels: Tensor) -> None:
        canvas[:] = torch.tensor(self.fill, dtype=canvas.dtype, device=canvas.device)[:, None, None]
        for part in parts:
            x1, y1, x2, y2 = part.window
            small = F.interpolate(
                pixels[part.source][None], size=(part.side, part.side), mode="bilinear", antialias=True
            )[0]
            canvas[:, y1:y2, x1:x2] = small[:, y1 - part.top : y2 - part.top, x1 - part.left : x2 - part.left]


def _whole(own: int, size: int) -> _Tile:
    return _Tile(own, size, 0, 0, (0, 0, size, size))


def _corner(k: int, source: int, draw: float, centre: tuple[int, int], size: int) -> _Tile:
    """Part k of a mosaic (upper left, upper right, lower left, lower right), which touches the centre."""
    side = round(size * (_SMALLEST_TILE + (1 - _SMALLEST_TILE) * draw))
    (x, y), right, below = centre, k % 2 == 1, k > 1
    left, top = (x if right else x - side), (y if below else y - side)
    window = (max(0, left), max(0, top), min(size, left + side), min(size, top + side))
    return _Tile(source, side, left, top, window)


def _scene(tiles: list[list[_Tile]], size: int) -> Scene:
    none = _Tile(0, size, 0, 0, (0, 0, 0, 0))
    most = max((len(parts) for parts in tiles), default=1)
    full = [[*parts, *[none] * (most - len(parts))] for parts in tiles]
    side = torch.tensor([[part.side for part in parts] for parts in full], dtype=torch.float32).view(-1, most, 1)
    corner = torch.tensor([[(part.left, part.top) for part in parts] for parts in full], dtype=torch.float32)
    window = torch.tensor([[part.window for part in parts] for parts in full], dtype=torch.float32)
    source = torch.tensor([[part.source for part in parts] for parts in full]).view(-1, most)
    return Scene(
        source, (side / size).expand(-1, -1, 2), corner.view(-1, most, 2) / size, window.view(-1, most, 4) / size
    )


def _moved(scene: Scene, affine: Tensor) -> Scene:
    """The same after all was moved by ``affine`` (B, 2, 3), which neither turns nor shears."""
    scale = affine[:, :, :2].diagonal(dim1=1, dim2=2)[:, None]
    shift = affine[:, None, :, 2]
    corners = scene.window.unflatten(-1, (2, 2)) * scale[:, :, None] + shift[:, :, None]
    low, high = corners.aminmax(dim=-2)
    return Scene(
        scene.source, scene.scale * scale, scene.shift * scale + shift, torch.cat((low, high), dim=-1).clamp(0, 1)
    )
