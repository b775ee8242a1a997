"""From many tokens to one vector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def masked_mean(tokens: Float[Tensor, "B L D"], mask: Bool[Tensor, "B L"]) -> Float[Tensor, "B D"]:
    """The mean over the real tokens, Σ_l m_l h_l / Σ_l m_l; zero, with zero gradient, where an example has none.

    Padded values are replaced, not multiplied by zero, so that even a NaN there stays out.
    """
    total = tokens.masked_fill(~mask[..., None], 0.0).sum(dim=1)
    return total / mask.sum(dim=1, keepdim=True).clamp(min=1).to(total.dtype)


def mean_of_groups(
    tokens: Mapping[str, Float[Tensor, "B _ D"]], masks: Mapping[str, Bool[Tensor, "B _"]]
) -> Float[Tensor, "B D"]:
    """The mean, over the groups that an example has, of each group's ``masked_mean``; zero where it has none."""
    means = torch.stack([masked_mean(tokens[name], masks[name]) for name in tokens], dim=1)
    present = torch.stack([masks[name].any(dim=1) for name in tokens], dim=1)
    return masked_mean(means, present)
