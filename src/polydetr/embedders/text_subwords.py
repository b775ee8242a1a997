"""How a backbone reads subwords whose characters have positions of their own (``modalities.text_subwords``).

It reads the first position of each subword; ``SubwordReader`` then makes the positions of one subword different.

Shape legend: B texts, L character positions, P subwords of the longest text (P ≤ L), D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polydetr.modalities.text_subwords import NUM_PLACES
from polydetr.nn.cpu.linear import is_capturing


class SubwordReader(nn.Module):
    """Adds to the vector h of a shared subword what depends on the place of the position in it:
    h + W₂ gelu(W₁ h + place). (B, L, D), (B, L) → (B, L, D).

    Positions that have their subword to themselves stay as they are. Initialized as the identity (W₂ = 0).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, width)
        self.places = nn.Embedding(NUM_PLACES, width)
        self.down = nn.Linear(width, width)
        nn.init.normal_(self.places.weight, std=0.5)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, hidden: Tensor, place: Tensor) -> Tensor:
        change = self.down(F.gelu(self.up(hidden) + self.places(place)))
        return hidden + change.masked_fill((place == 0)[..., None], 0.0)


def through_subwords(
    backbone: Callable[[Mapping[str, Tensor], Tensor], Tensor], values: Mapping[str, Tensor], mask: Tensor
) -> Tensor:
    """Runs ``backbone`` over the first positions alone and copies each subword's vector to all its positions: (B, L,
    D).

    values: named (B, L) tensors, among them "first_position"; the backbone gets the others, (B, P), and their mask.
    """
    is_first, length = values["first_position"].bool() & mask, mask.shape[1]
    counts = is_first.sum(1)
    # The shape of a recorded graph must not depend on values: its P is L.
    longest = length if is_capturing() else max(1, int(counts.max()))
    target = torch.where(is_first, is_first.cumsum(1) - 1, length)  # all others share a column that is cut off
    numbers = torch.arange(length, device=mask.device).expand_as(mask)
    places = numbers.new_zeros(mask.shape[0], length + 1).scatter(1, target, numbers)[:, :longest]
    taken = {name: v.gather(1, places) for name, v in values.items() if name not in ("first_position", "place")}
    hidden = backbone(taken, torch.arange(longest, device=mask.device) < counts[:, None])
    return of_positions(hidden, subwords_of_positions(values["first_position"], mask)[0])


def subwords_of_positions(first_position: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The number of each position's subword in its text (B, L), and its share of that subword (B, L): one divided by
    the number of the subword's positions, 0 at padding.
    """
    subword = ((first_position.bool() & mask).cumsum(1) - 1).clamp(min=0)
    sizes = torch.zeros(subword.shape, device=subword.device).scatter_add(1, subword, mask.float())
    return subword, mask / sizes.gather(1, subword).clamp(min=1)


def of_positions(subwords: Tensor, subword: Tensor) -> Tensor:
    """(B, P, D), (B, L) → (B, L, D): every position has the vector of its subword."""
    return subwords.gather(1, subword[..., None].expand(-1, -1, subwords.shape[-1]))
