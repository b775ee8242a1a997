"""Images whose objects can be followed: half of them shown smaller, then augmented as all are.

Source: scale jitter (zoom out), Liu et al. 2016, arXiv 1512.02325, section 3.6, which makes the small objects that a
small data set lacks.

Shapes: B images (B, 3, S, S) uint8.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from polydetr.embedders.image_augment import ImageAugment
from polydetr.nn.batch import Scene

OFF_FROM = 0.85
"""Of the training: the last steps see images at their own size (Ge et al. 2021, arXiv 2107.08430)."""


class _Place(NamedTuple):
    """Where an image is shown: ``side`` pixels a side, with its corner at (left, top)."""

    side: int
    left: int
    top: int


class SceneAugment:
    """zoom: smallest side of an image that is shown smaller, 1 = off; half of them are. varied: what is done to all of
    them then. fill: the color beside images.
    """

    def __init__(self, varied: ImageAugment, *, zoom: float, fill: tuple[int, int, int]) -> None:
        self.varied, self.zoom, self.fill = varied, zoom, fill

    def __call__(self, pixels: Tensor, generator: torch.Generator, progress: float = 0.0) -> tuple[Tensor, Scene]:
        """(B, 3, S, S) and what it shows. Chance is drawn from the generator alone."""
        size, on = pixels.shape[-1], progress < OFF_FROM and self.zoom < 1
        places = [self._place(size, generator) if on else _Place(size, 0, 0) for _ in range(len(pixels))]
        shown = pixels.clone()
        for image, own, place in zip(shown, pixels, places, strict=True):
            if place.side < size:
                self._paint(image, own, place)
        found = self.varied(shown, generator)
        return found.pixels, _moved(places, size, found.affine)

    def _place(self, size: int, generator: torch.Generator) -> _Place:
        draws = torch.rand(4, generator=generator).tolist()
        if draws[0] >= 0.5:
            return _Place(size, 0, 0)
        side = max(1, round(size * (self.zoom + (1 - self.zoom) * draws[1])))
        left, top = (round((size - side) * draw) for draw in draws[2:])
        return _Place(side, left, top)

    def _paint(self, canvas: Tensor, image: Tensor, place: _Place) -> None:
        side, left, top = place
        canvas[:] = torch.tensor(self.fill, dtype=canvas.dtype, device=canvas.device)[:, None, None]
        small = F.interpolate(image[None], size=(side, side), mode="bilinear", antialias=True)[0]
        canvas[:, top : top + side, left : left + side] = small


def _moved(places: list[_Place], size: int, affine: Tensor) -> Scene:
    """Where each image lies, placed and then moved by ``affine`` (B, 2, 3), which neither turns nor shears."""
    own_scale = torch.tensor([[side] for side, _, _ in places], dtype=torch.float32).view(-1, 1) / size
    own_shift = torch.tensor([[left, top] for _, left, top in places], dtype=torch.float32).view(-1, 2) / size
    scale, shift = affine[:, :, :2].diagonal(dim1=1, dim2=2), affine[:, :, 2]
    corners = torch.stack((own_shift, own_shift + own_scale), dim=1) * scale[:, None] + shift[:, None]
    low, high = corners.aminmax(dim=1)
    return Scene(own_scale * scale, own_shift * scale + shift, torch.cat((low, high), dim=-1).clamp(0, 1))
