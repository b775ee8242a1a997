"""Where a token stands, as a vector. Both kinds take explicit positions, so that padding or windows never shift them.

Shapes: B examples, L tokens, D ``embed_dim``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from polydetr.errors import ConfigError, InputError
from polydetr.nn.cpu.linear import is_capturing

if TYPE_CHECKING:
    from jaxtyping import Float, Int64


class LearnedPositions(nn.Module):
    """One learned vector for each position 0 … ``num_positions`` - 1 (as in BERT, arXiv 1810.04805, section 3).

    Raises ConfigError for sizes below 1; on the CPU, InputError for a position outside the range.
    """

    def __init__(self, num_positions: int, embed_dim: int) -> None:
        super().__init__()
        if num_positions < 1 or embed_dim < 1:
            raise ConfigError(f"num_positions={num_positions} and embed_dim={embed_dim} must both be at least 1.")
        self.num_positions, self.embed_dim = num_positions, embed_dim
        self.table = nn.Embedding(num_positions, embed_dim)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, positions: Int64[Tensor, "B L"]) -> Float[Tensor, "B L {self.embed_dim}"]:
        # On an accelerator the check would wait for the device, and a captured graph cannot raise.
        if positions.numel() and positions.device.type == "cpu" and not is_capturing():
            low, high = (int(end) for end in positions.aminmax())
            if low < 0 or high >= self.num_positions:
                raise InputError(
                    f"position {low if low < 0 else high} is outside 0 … {self.num_positions - 1}.",
                    hint="Cut the input into shorter windows, or build the model with more positions.",
                )
        return self.table(positions)


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
