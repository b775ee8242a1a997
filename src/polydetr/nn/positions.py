"""Positions as vectors, from explicit numbers, so that padding or windows never shift them.

Shapes: B examples, L tokens, D ``embed_dim``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from polydetr.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Float, Int64


class SinusoidalPositions(nn.Module):
    """Fixed waves, PE(p, 2i) = sin(p / base^(2i/D)) and PE(p, 2i+1) = cos(same); any position, nothing to learn.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.5. An odd D goes without the last cosine.
    Raises ConfigError for ``embed_dim`` below 1 or ``base`` not above 1.
    """

    def __init__(self, embed_dim: int, *, base: float = 10_000.0) -> None:
        super().__init__()
        if embed_dim < 1 or not base > 1.0:
            raise ConfigError(f"embed_dim={embed_dim} must be at least 1 and base={base} above 1.")
        self.embed_dim, self.base = embed_dim, base

    def forward(self, positions: Int64[Tensor, "B L"]) -> Float[Tensor, "B L {self.embed_dim}"]:
        """float32 waves, whatever the model computes in: half precision cannot count past a few thousand positions."""
        # Not a buffer: casting the model to half precision would blur the frequencies for good.
        pairs = torch.arange((self.embed_dim + 1) // 2, device=positions.device, dtype=torch.float32)
        frequencies = torch.exp(pairs * (-2.0 * math.log(self.base) / self.embed_dim))
        angles = positions[..., None].to(torch.float32) * frequencies
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)[..., : self.embed_dim]
