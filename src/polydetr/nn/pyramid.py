"""Fuses maps of several scales: attention on the coarsest, then down to the finest and up again by convolutions.

Source: the hybrid encoder of RT-DETR, Zhao et al. 2023 (arXiv 2304.08069), section 4.2: attention only where cells are
few and mean most, fusion between neighboring scales after PANet (Liu et al. 2018, arXiv 1803.01534). The norms are
group norms (Wu & He 2018, arXiv 1803.08494): batches of a few images would spoil batch statistics.

Shapes: B images, V levels from the finest to the coarsest, each twice as coarse as the one before, D ``embed_dim``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polydetr.errors import ConfigError
from polydetr.nn.detr import DetrEncoder, DetrSizes, sine_positions


class ConvUnit(nn.Module):
    """Convolution, group norm, SiLU. (B, I, h, w) → (B, O, ⌈h/stride⌉, ⌈w/stride⌉)."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int = 1, stride: int = 1, activation: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.norm = nn.GroupNorm(_groups(outputs), outputs)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return F.silu(x, inplace=True) if self.activation else x


class Fuse(nn.Module):
    """Two maps of one scale to one: mixed by a 1×1 convolution, plus a 3×3 bottleneck of half the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = ConvUnit(2 * width, width)
        self.narrow = ConvUnit(width, width // 2)
        self.look = ConvUnit(width // 2, width, kernel=3)

    def forward(self, own: Tensor, other: Tensor) -> Tensor:
        mixed = self.mix(torch.cat((own, other), dim=1))
        return mixed + self.look(self.narrow(mixed))


class PyramidEncoder(nn.Module):
    """channels: of each map that comes in. (B, C_v, h_v, w_v) for each level → (B, D, h_v, w_v) for each.

    Raises ConfigError without a level.
    """

    def __init__(
        self, channels: Sequence[int], embed_dim: int, *, num_layers: int, num_heads: int, ffn_dim: int, dropout: float
    ) -> None:
        super().__init__()
        if not channels:
            raise ConfigError("a pyramid needs at least one map.")
        self.embed_dim = embed_dim
        self.inputs = nn.ModuleList(ConvUnit(c, embed_dim, activation=False) for c in channels)
        sizes = DetrSizes(
            1, embed_dim=embed_dim, encoder_layers=num_layers, encoder_heads=num_heads, encoder_ffn=ffn_dim,
            dropout=dropout, activation="gelu",
        )  # fmt: skip
        self.attention = DetrEncoder(sizes)
        steps = len(channels) - 1
        self.lateral = nn.ModuleList(ConvUnit(embed_dim, embed_dim) for _ in range(steps))
        self.downwards = nn.ModuleList(Fuse(embed_dim) for _ in range(steps))
        self.shrink = nn.ModuleList(ConvUnit(embed_dim, embed_dim, kernel=3, stride=2) for _ in range(steps))
        self.upwards = nn.ModuleList(Fuse(embed_dim) for _ in range(steps))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        # Backbones give channels last, for which group norms take half as long again.
        levels = [project(x.contiguous()) for project, x in zip(self.inputs, maps, strict=True)]
        levels[-1] = self._attended(levels[-1])
        for level in range(len(levels) - 2, -1, -1):  # from coarse to fine
            levels[level + 1] = self.lateral[level](levels[level + 1])
            larger = F.interpolate(levels[level + 1], size=levels[level].shape[-2:], mode="nearest")
            levels[level] = self.downwards[level](levels[level], larger)
        for level in range(len(levels) - 1):
            levels[level + 1] = self.upwards[level](levels[level + 1], self.shrink[level](levels[level]))
        return levels

    def _attended(self, coarsest: Tensor) -> Tensor:
        batch, _, height, width = coarsest.shape
        if not self.attention.layers:
            return coarsest
        real = torch.ones(1, height, width, dtype=torch.bool, device=coarsest.device)
        positions = sine_positions(real, self.embed_dim).flatten(1, 2).to(coarsest.dtype)
        cells = self.attention(coarsest.flatten(2).transpose(1, 2), positions.expand(batch, -1, -1), None)
        return cells.transpose(1, 2).reshape(coarsest.shape)


def _groups(channels: int) -> int:
    """Groups of eight channels or more, as many as divide them, at most 32."""
    return next(n for n in (32, 16, 8, 4, 2, 1) if channels % n == 0 and channels // n >= min(8, channels))
