"""Where a text enters its backbone as vectors, and how its tokens attend to one another there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from polydetr.modalities.text_pieces import of_slots, pieces_of_slots
from polydetr.nn.batch import TokenGroup
from polydetr.nn.entry import Entry, Look


class TextEntry(Entry):
    """The sum of what ``sites``, modules inside the embedder, give for each token. The slots of one piece
    (``text_pieces``) have equal shares of its vector.
    """

    def __init__(self, embedder: nn.Module, sites: Sequence[nn.Module]) -> None:
        super().__init__(embedder)
        self.sites = tuple(sites)

    def _as_vectors(self, there: Tensor, group: TokenGroup) -> Tensor:
        if "lead" not in group.values:
            return there
        piece, share = pieces_of_slots(group.values["lead"], group.mask)
        return of_slots(there, piece) * share[..., None]

    def _as_flow(self, vectors: Tensor, there: Tensor, group: TokenGroup) -> Tensor:
        if "lead" not in group.values:
            return vectors.reshape(there.shape)
        piece, _ = pieces_of_slots(group.values["lead"], group.mask)
        slots = vectors.reshape(*piece.shape, -1)
        return torch.zeros_like(there).scatter_add(1, piece[..., None].expand_as(slots), slots)

    def _hooks(self, look: Look) -> list[RemovableHandle]:
        def put(number: int) -> Callable[[nn.Module, object, Tensor], Tensor]:
            return lambda module, inputs, output: look(number, output)

        return [site.register_forward_hook(put(i)) for i, site in enumerate(self.sites)]


def between_slots(weights: Tensor, group: TokenGroup) -> Tensor:
    """(B, P, P) between the pieces that a backbone read → (B, L, L) between slots, which share what their piece
    receives (``text_pieces``).
    """
    if "lead" not in group.values:
        return weights
    piece, share = pieces_of_slots(group.values["lead"], group.mask)
    return of_slots(of_slots(weights, piece).transpose(1, 2), piece).transpose(1, 2) * share[:, None]
