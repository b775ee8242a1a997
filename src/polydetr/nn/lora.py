"""Low-rank adaptation: tune a large linear map through two thin ones, then fold them in.

Source: Hu et al. 2021, "LoRA" (arXiv 2106.09685), section 4.1:

    y = W x + (α / r) B A x        A: r × in (``down``), B: out × r (``up``), B = 0 at the start
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

PLAIN = (nn.Linear, Linear)


class LoRALinear(nn.Module):
    """A frozen ``nn.Linear`` with a trainable update of the given rank; equal to the base until trained.

    Raises ConfigError for a rank outside 1 … min(in, out) or an alpha that is not positive.
    """

    def __init__(self, base: nn.Linear, *, rank: int, alpha: float) -> None:
        super().__init__()
        largest = min(base.in_features, base.out_features)
        if not 1 <= rank <= largest:
            raise ConfigError(f"rank={rank} does not lie in 1 … {largest}, which this layer's size allows.")
        if not (alpha > 0 and math.isfinite(alpha)):
            raise ConfigError(f"alpha={alpha} must be positive.", hint="A usual choice is twice the rank.")
        self.base = base.requires_grad_(False)
        self.scale = alpha / rank
        place = {"device": base.weight.device, "dtype": base.weight.dtype}
        self.down = nn.Parameter(torch.empty(rank, base.in_features, **place))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank, **place))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(
        self, inputs: Float[Tensor, "*batch {self.base.in_features}"]
    ) -> Float[Tensor, "*batch {self.base.out_features}"]:
        update = nn.functional.linear(nn.functional.linear(inputs, self.down), self.up)
        return self.base(inputs) + self.scale * update
