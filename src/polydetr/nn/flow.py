"""The pieces of a network that learns by flow matching (``core.flow``): patches, and what tells it the time.

Shapes: B examples, C channels, H × W pixels, P pixels per side of one patch, L = H / P · W / P patches.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from polydetr.errors import ConfigError
from polydetr.nn.cpu.linear import Linear

if TYPE_CHECKING:
    from jaxtyping import Float


def logit_normal_times(
    count: int, *, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
) -> Float[Tensor, " {count}"]:
    """t = sigmoid(z), z from N(0, 1): more draws in the middle of the path, where the velocity is hardest to predict.

    Source: Esser et al. 2024 (arXiv 2403.03206), section 3.1.
    """
    return torch.sigmoid(torch.randn(count, generator=generator, device=device))


def patchify(images: Float[Tensor, "B C H W"], patch_size: int) -> Float[Tensor, "B L E"]:
    """Images cut into patches, row by row; E = C · P · P, the channels first.

    Raises:
        ConfigError: the sides are no multiple of ``patch_size``.
    """
    height, width = images.shape[2:]
    if patch_size < 1 or height % patch_size or width % patch_size:
        raise ConfigError(
            f"images of {height} x {width} pixels cannot be cut into patches of {patch_size}.",
            hint="The patch size must divide both sides.",
        )
    return nn.functional.unfold(images, patch_size, stride=patch_size).transpose(1, 2)


def unpatchify(
    patches: Float[Tensor, "B L E"], patch_size: int, *, height: int, width: int
) -> Float[Tensor, "B C H W"]:
    """The inverse of :func:`patchify`."""
    return nn.functional.fold(patches.transpose(1, 2), (height, width), patch_size, stride=patch_size)


_NUM_WAVES = 64


class TimeEmbedding(nn.Module):
    """A time from 0 to 1 as a vector: waves of many frequencies, then two layers.

    Source: Ho et al. 2020 (arXiv 2006.11239), appendix B, with t · 1000 for the number of the step.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        if embed_dim < 1:
            raise ConfigError(f"embed_dim={embed_dim} must be at least 1.")
        self.embed_dim = embed_dim
        self.expand = Linear(2 * _NUM_WAVES, embed_dim)
        self.output = Linear(embed_dim, embed_dim)

    def forward(self, time: Float[Tensor, " B"]) -> Float[Tensor, "B {self.embed_dim}"]:
        # float32 whatever the model computes in: half precision cannot resolve t · 1000.
        rates = torch.exp(
            torch.arange(_NUM_WAVES, device=time.device, dtype=torch.float32) * (-math.log(10_000.0) / _NUM_WAVES)
        )
        angles = 1000.0 * time.float()[:, None] * rates
        waves = torch.cat([angles.sin(), angles.cos()], -1).to(self.expand.weight.dtype)
        return self.output(nn.functional.silu(self.expand(waves)))


class Modulation(nn.Module):
    """h · (1 + scale(c)) + shift(c) on normalized tokens: how the time conditions every patch in the output layer.

    Source: the final layer of DiT, Peebles & Xie 2022 (arXiv 2212.09748), section 3.2.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.norm = nn.LayerNorm(embed_dim, elementwise_affine=False)
        self.maps = Linear(embed_dim, 2 * embed_dim)
        nn.init.normal_(self.maps.weight, std=0.02)
        nn.init.zeros_(self.maps.bias)

    def forward(
        self, tokens: Float[Tensor, "B L {self.embed_dim}"], condition: Float[Tensor, "B {self.embed_dim}"]
    ) -> Float[Tensor, "B L {self.embed_dim}"]:
        scale, shift = self.maps(nn.functional.silu(condition))[:, None].chunk(2, -1)
        return self.norm(tokens) * (1 + scale) + shift
