"""From many tokens to one vector."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def masked_mean(tokens: Float[Tensor, "B L D"], mask: Bool[Tensor, "B L"]) -> Float[Tensor, "B D"]:
    """The mean over the real tokens, Σ_l m_l h_l / Σ_l m_l; zero, with zero gradient, where an example has none.

    Padded values are replaced, not multiplied by zero, so that even a NaN there stays out.
    """
    total = tokens.masked_fill(~mask[..., None], 0.0).sum(dim=1)
    return total / mask.sum(dim=1, keepdim=True).clamp(min=1).to(total.dtype)
