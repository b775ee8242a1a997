"""Augmented images whose objects' boxes can be moved along: half of the images are shown smaller, then all are
augmented.

Source: scale jitter (zoom out), Liu et al. 2016, arXiv 1512.02325, section 3.6, which gives the small objects that a
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
"""Share of the training after which images are shown at full size (Ge et al. 2021, arXiv 2107.08430)."""


class _Place(NamedTuple):
    """Where an image is shown: ``side`` pixels per side, its corner at (left, top)."""

    side: int
    left: int
    top: int


class SceneAugment:
    """zoom: smallest side of an image that is shown smaller, as a share of the full one, 1 = off. augmentation: of all
    images afterwards. fill: the color around images, (red, green, blue).
    """

    def __init__(self, augmentation: ImageAugment, *, zoom: float, fill: tuple[int, int, int]) -> None:
        self.augmentation, self.zoom, self.fill = augmentation, zoom, fill

    def __call__(self, pixels: Tensor, generator: torch.Generator, progress: float = 0.0) -> tuple[Tensor, Scene]:
        """The augmented images (B, 3, S, S), and how they were moved. progress: of the training, 0 … 1."""
        size, on = pixels.shape[-1], progress < OFF_FROM and self.zoom < 1
        places = [self._place(size, generator) if on else _Place(size, 0, 0) for _ in range(len(pixels))]
        shown = pixels.clone()
        for image, own, place in zip(shown, pixels, places, strict=True):
            if place.side < size:
                self._paint(image, own, place)
        augmented = self.augmentation(shown, generator)
        return augmented.pixels, _moved(places, size, augmented.affine)

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
    """The total movement of each image, placed and then moved by ``affine`` (B, 2, 3), which neither rotates nor
    shears.
    """
    own_scale = torch.tensor([[side] for side, _, _ in places], dtype=torch.float32).view(-1, 1) / size
    own_shift = torch.tensor([[left, top] for _, left, top in places], dtype=torch.float32).view(-1, 2) / size
    scale, shift = affine[:, :, :2].diagonal(dim1=1, dim2=2), affine[:, :, 2]
    corners = torch.stack((own_shift, own_shift + own_scale), dim=1) * scale[:, None] + shift[:, None]
    low, high = corners.aminmax(dim=1)
    window = torch.cat((low, high), dim=-1).clamp(0, 1)
    return Scene(own_scale * scale, own_shift * scale + shift, window, pixel=1 / size)
