"""Where a text enters its backbone as vectors, and how its tokens attend to one another there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from polydetr.embedders.entry import Entry, Look
from polydetr.embedders.text_subwords import of_positions, subwords_of_positions
from polydetr.nn.batch import TokenGroup


class TextEntry(Entry):
    """The sum of what ``sites``, modules inside the embedder, give for each token. The positions of one
    subword (``text_subwords``) have equal shares of its vector.
    """

    def __init__(self, embedder: nn.Module, sites: Sequence[nn.Module]) -> None:
        super().__init__(embedder)
        self.sites = tuple(sites)

    def _as_vectors(self, there: Tensor, group: TokenGroup) -> Tensor:
        if "first_position" not in group.values:
            return there
        subword, share = subwords_of_positions(group.values["first_position"], group.mask)
        return of_positions(there, subword) * share[..., None]

    def _as_flow(self, vectors: Tensor, there: Tensor, group: TokenGroup) -> Tensor:
        if "first_position" not in group.values:
            return vectors.reshape(there.shape)
        subword, _ = subwords_of_positions(group.values["first_position"], group.mask)
        own = vectors.reshape(*subword.shape, -1)
        return torch.zeros_like(there).scatter_add(1, subword[..., None].expand_as(own), own)

    def _hooks(self, look: Look) -> list[RemovableHandle]:
        def put(number: int) -> Callable[[nn.Module, object, Tensor], Tensor]:
            return lambda module, inputs, output: look(number, output)

        return [site.register_forward_hook(put(i)) for i, site in enumerate(self.sites)]


def between_positions(weights: Tensor, group: TokenGroup) -> Tensor:
    """(B, P, P) between the subwords that a backbone read → (B, L, L) between positions, which share what their subword
    receives (``text_subwords``).
    """
    if "first_position" not in group.values:
        return weights
    subword, share = subwords_of_positions(group.values["first_position"], group.mask)
    return of_positions(of_positions(weights, subword).transpose(1, 2), subword).transpose(1, 2) * share[:, None]
