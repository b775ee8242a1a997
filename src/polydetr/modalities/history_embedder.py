"""The tokens of a history: one an item, made by the embedders of the modalities that an item is read with.

Shapes: B examples, N items, K distinct items of the batch, D ``embed_dim``; the arrays are those of
``modalities.history``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from polydetr.nn.batch import Embedded, TokenGroup
from polydetr.nn.numbers import LinearNumbers, PeriodicNumbers
from polydetr.nn.pooling import mean_of_groups


class HistoryEmbedder(nn.Module):
    """TokenGroup → Embedded (B, N, D): one token an item.

    ``borrow`` hands over the embedders of the other modalities, which are held but not owned: they stand once in the
    state dict, under their own names.
    """

    def __init__(
        self,
        table: nn.Module | None,
        *,
        borrowed: Sequence[str],
        embed_dim: int,
        max_items: int,
        num_fields: int,
        with_age: bool,
    ) -> None:
        super().__init__()
        self.embed_dim, self.borrowed = embed_dim, tuple(borrowed)
        self.table = table
        self._lent: dict[str, nn.Module] = {}  # a plain dict, so that nothing in it is registered here
        self.order_embedding = nn.Embedding(max_items + 1, embed_dim)
        nn.init.normal_(self.order_embedding.weight, std=0.02)
        self.field_embedding = nn.Embedding(num_fields, embed_dim) if num_fields > 1 else None
        if self.field_embedding is not None:
            nn.init.normal_(self.field_embedding.weight, std=0.02)
        self.age_line = LinearNumbers(1, embed_dim) if with_age else None
        self.age_waves = PeriodicNumbers(1, embed_dim) if with_age else None

    def borrow(self, embedders: nn.ModuleDict) -> None:
        self._lent = {name: embedders[name] for name in self.borrowed}

    def forward(self, group: TokenGroup) -> Embedded:
        mask, values = group.mask, {name: value[group.mask] for name, value in group.values.items()}
        weight = self.order_embedding.weight
        tokens = weight.new_zeros(*mask.shape, self.embed_dim)
        if bool(mask.any()):
            found = self._items(values) + self.order_embedding(values["order"])
            if self.field_embedding is not None:
                found = found + self.field_embedding(values["field"])
            if self.age_line is not None and self.age_waves is not None:
                age, column = values["age"][None], torch.zeros_like(values["item"])[None]
                aged = (self.age_line(age[..., None], column) + self.age_waves(age, column))[0]
                found = found + aged * values["age_known"][:, None].to(aged.dtype)
            tokens = tokens.index_put((mask,), found.to(tokens.dtype))
        return Embedded(tokens, mask)

    def _items(self, values: Mapping[str, Tensor]) -> Tensor:
        """(items of the batch, D): each distinct item embedded once, then handed to all its places."""
        keys, place = torch.unique(values["item"], return_inverse=True)
        numbers = torch.arange(len(place), device=place.device)
        first = torch.full((len(keys),), len(place), device=place.device).scatter_reduce(0, place, numbers, "amin")
        embedders = {**self._lent, **({"table": self.table} if self.table is not None else {})}
        made = {name: embedder(self._group(name, values, first)) for name, embedder in embedders.items()}
        return mean_of_groups({n: e.tokens for n, e in made.items()}, {n: e.mask for n, e in made.items()})[place]

    @staticmethod
    def _group(name: str, values: Mapping[str, Tensor], first: Tensor) -> TokenGroup:
        """The distinct items (K, T) in one modality, cut to the longest of them."""
        length = values[f"{name}.length"][first]
        longest = max(1, int(length.max()))
        prefix = f"{name}."
        taken = {
            key.removeprefix(prefix): value[first][:, :longest]
            for key, value in values.items()
            if key.startswith(prefix) and key != f"{name}.length"
        }
        positions = torch.arange(longest, device=length.device).expand(len(first), longest)
        return TokenGroup(taken, positions < length[:, None], positions)
