"""Augmented images: mirrored, cropped, recolored, blended; whole batches at a time.

Sources: Szegedy et al. 2015, arXiv 1409.4842 (random resized crops); Zhang et al. 2018, arXiv 1710.09412 (mixup);
Yun et al. 2019, arXiv 1905.04899 (cutmix).

All random numbers come from the generator that is passed in, drawn on the CPU: the same seed gives the same images on
any device. Shapes: N images (N, 3, H, W) uint8; points are (x, y) as shares of width and height.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from polydetr.config.sections import AugmentConfig

Mix = Literal["none", "mixup", "cutmix"]
_ASPECT = 4 / 3
"""A crop is distorted by this much at most, either way."""
_GRAY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the gray of a pixel (ITU-R BT.601)."""


class Augmented(NamedTuple):
    """pixels (N, 3, H, W) uint8; affine (N, 2, 3) float32, which moves points: new = A[:, :2] @ old + A[:, 2]."""

    pixels: Tensor
    affine: Tensor


class Blended(NamedTuple):
    """pixels = lam · own + (1 - lam) · those of ``permutation``; the losses are to be blended likewise.

    permutation (N,) int64, lam (N,) float32.
    """

    pixels: Tensor
    permutation: Tensor
    lam: Tensor


@dataclass(frozen=True, kw_only=True)
class ImageAugment:
    """flip, flip_vertical: probability that an image is mirrored left to right, top to bottom. crop: smallest share of
    the area that a crop keeps, 1 = off. color: largest change of brightness, contrast and saturation, as a share. mix:
    how :meth:`blend` blends two images.
    """

    flip: float = 0.5
    flip_vertical: float = 0.0
    crop: float = 0.7
    color: float = 0.2
    mix: Mix = "none"

    @classmethod
    def from_config(cls, config: AugmentConfig) -> ImageAugment:
        return cls(
            flip=0.5 * config.flip, flip_vertical=0.5 * config.flip_vertical, crop=config.crop, color=config.color,
            mix=config.mix,
        )  # fmt: skip

    def __call__(self, pixels: Tensor, generator: torch.Generator) -> Augmented:
        """Augments every image independently; with everything off, returns the same bytes."""
        affine = torch.eye(2, 3).repeat(len(pixels), 1, 1)
        for axis, chance in enumerate((self.flip, self.flip_vertical)):  # x, y
            if chance > 0:
                mirrored = torch.rand(len(pixels), generator=generator) < chance
                affine[mirrored, axis, axis], affine[mirrored, axis, 2] = -1.0, 1.0
                pixels = torch.where(mirrored[:, None, None, None].to(pixels.device), pixels.flip(3 - axis), pixels)
        if (self.crop >= 1 and self.color <= 0) or not len(pixels):
            return Augmented(pixels, affine)
        changed = pixels.float()
        if self.crop < 1:
            corner, side = _crops(len(pixels), self.crop, generator)
            changed = _cropped(changed, corner.to(pixels.device), side.to(pixels.device))
            affine[:, :, 2] -= corner
            affine /= side[:, :, None]
        if self.color > 0:
            changed = self._recolored(changed, generator)
        return Augmented(changed.round_().clamp_(0, 255).to(torch.uint8), affine)

    def _recolored(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """x · brightness b, then its distance from the image's mean gray m · contrast c, from its own gray ·
        saturation s. All three are linear in a pixel's colors, so they are one 3 x 3 matrix for each image:
        new = c·b·(s·I + (1 - s)·1wᵀ) x + (1 - c)·b·m, where w weighs the colors to gray.
        """
        factors = 1 + self.color * (2 * torch.rand(3, len(pixels), generator=generator) - 1)
        b, c, s = factors.to(pixels.device)[..., None, None]
        weights = torch.tensor(_GRAY, device=pixels.device)
        matrix = c * b * (s * torch.eye(3, device=pixels.device) + (1 - s) * weights.expand(3, 3))
        mean = (pixels.mean((2, 3)) @ weights)[:, None, None]
        colors = pixels.flatten(2)
        return torch.baddbmm((1 - c) * b * mean, matrix, colors).view_as(pixels)

    def blend(self, pixels: Tensor, generator: torch.Generator) -> Blended:
        """Each image with another of the batch: "mixup" averages them, "cutmix" pastes a rectangle of the other one.

        ``lam`` is drawn from Beta(0.2, 0.2) for mixup and uniformly for cutmix, as in the papers; for cutmix it is then
        the share of the area that is really kept.
        """
        count = len(pixels)
        order = torch.randperm(count, generator=generator)
        if self.mix == "none" or count < 2:
            return Blended(pixels, torch.arange(count), torch.ones(count))
        others = pixels[order.to(pixels.device)]
        if self.mix == "mixup":
            lam = _beta(count, 0.2, generator)
            averaged = torch.lerp(others.float(), pixels.float(), lam.to(pixels.device)[:, None, None, None])
            return Blended(averaged.round_().to(torch.uint8), order, lam)
        inside = _rectangles(count, pixels.shape[2], pixels.shape[3], generator)
        lam = 1 - inside.flatten(1).float().mean(1)
        return Blended(torch.where(inside[:, None].to(pixels.device), others, pixels), order, lam)


def _crops(count: int, smallest: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Corner and side of rectangles, (N, 2) each, (x, y) as shares; they lie inside."""
    area, aspect, *place = torch.rand(4, count, generator=generator)
    area = smallest + (1 - smallest) * area
    # No side may be longer than the image, and the area stays what it is.
    widest = (-0.5 * area.log()).clamp_(max=0.5 * math.log(_ASPECT))
    ratio = torch.exp((2 * aspect - 1) * widest)
    side = torch.stack((area.sqrt() * ratio, area.sqrt() / ratio), dim=1).clamp_(max=1)
    return torch.stack(place, dim=1) * (1 - side), side


def _cropped(pixels: Tensor, corner: Tensor, side: Tensor) -> Tensor:
    """The rectangles, enlarged to the whole image (bilinear; a crop is never made smaller, so nothing is lost)."""
    theta = torch.zeros(len(pixels), 2, 3, device=pixels.device)
    theta[:, 0, 0], theta[:, 1, 1] = side.unbind(1)
    theta[:, :, 2] = 2 * corner + side - 1  # grid_sample counts from -1 to 1
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _rectangles(count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """(N, H, W) bool: rectangles of the image's own shape, their area uniform, their center anywhere."""
    area, *center = torch.rand(3, count, generator=generator)
    inside = []
    for length, middle in zip((height, width), center, strict=True):
        half = area.sqrt() / 2
        pixel = (torch.arange(length) + 0.5) / length
        inside.append((pixel >= (middle - half)[:, None]) & (pixel < (middle + half)[:, None]))
    return inside[0][:, :, None] & inside[1][:, None, :]


def _beta(count: int, alpha: float, generator: torch.Generator) -> Tensor:
    """(N,) from Beta(alpha, alpha), by Jöhnk's method: torch's own sampler takes no generator.

    x = u^(1/alpha), y = v^(1/alpha), kept where x + y ≤ 1: x / (x + y). 24 tries each; for alpha = 0.2 one try fails
    in 20.
    """
    u, v = torch.rand(2, 24, count, dtype=torch.float64, generator=generator).clamp_(min=1e-12).pow_(1 / alpha)
    kept = (u + v <= 1).float().argmax(0)  # the first that fits
    x, y = (draws.gather(0, kept[None])[0] for draws in (u, v))
    return (x / (x + y)).float()
