"""The tokens of a history: one per item, made by the embedders of the modalities that an item is read with.

Shapes: B examples, N items, K distinct items of the batch, D ``embed_dim``; the arrays are those of
``modalities.history``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from polydetr.embedders.base import Embedder
from polydetr.embedders.table import TableEmbedder
from polydetr.modalities.history import HistoryModality
from polydetr.nn.batch import Embedded, TokenGroup
from polydetr.nn.cpu.linear import is_capturing
from polydetr.nn.numbers import LinearNumbers, PeriodicNumbers
from polydetr.nn.pooling import mean_of_groups


class HistoryEmbedder(Embedder):
    """TokenGroup → Embedded (B, N, D): one token per item.

    borrowed: the embedders of the other modalities, which are held but not owned: they stand once in the state dict,
    under their own names. table: that of the items.
    """

    def __init__(
        self,
        table: nn.Module | None,
        *,
        borrowed: Mapping[str, nn.Module],
        embed_dim: int,
        max_items: int,
        num_fields: int,
        with_age: bool,
    ) -> None:
        super().__init__(embed_dim)
        self.table = table
        self.borrowed = dict(borrowed)  # a plain dict, so that nothing in it is registered here
        self.order_embedding = nn.Embedding(max_items + 1, embed_dim)
        nn.init.normal_(self.order_embedding.weight, std=0.02)
        self.field_embedding = nn.Embedding(num_fields, embed_dim) if num_fields > 1 else None
        if self.field_embedding is not None:
            nn.init.normal_(self.field_embedding.weight, std=0.02)
        self.age_line = LinearNumbers(1, embed_dim) if with_age else None
        self.age_waves = PeriodicNumbers(1, embed_dim) if with_age else None

    @classmethod
    def from_modality(
        cls, modality: HistoryModality, *, embed_dim: int | None, others: Mapping[str, nn.Module]
    ) -> Self:
        width, table = embed_dim or 64, modality.table
        return cls(
            TableEmbedder.from_modality(table, embed_dim=width, others={}) if table is not None else None,
            borrowed={name: others[name] for name in modality.parts if name in others and name != "table"},
            embed_dim=width,
            max_items=modality.config.max_items,
            num_fields=len(modality.fields),
            with_age=modality.config.age is not None,
        )

    def forward(self, group: TokenGroup) -> Embedded:
        mask, weight = group.mask, self.order_embedding.weight
        if is_capturing():  # every place is embedded, also those that hold no item: the mask must not choose
            found = self._tokens({name: value.flatten(0, 1) for name, value in group.values.items()})
            tokens = found.to(weight.dtype).unflatten(0, mask.shape)
            return Embedded(tokens.masked_fill(~mask[..., None], 0.0), mask)
        tokens = weight.new_zeros(*mask.shape, self.embed_dim)
        if bool(mask.any()):
            found = self._tokens({name: value[mask] for name, value in group.values.items()})
            tokens = tokens.index_put((mask,), found.to(tokens.dtype))
        return Embedded(tokens, mask)

    def _tokens(self, values: Mapping[str, Tensor]) -> Tensor:
        """Items (n, ...) → (n, D)."""
        found = self._items(values) + self.order_embedding(values["order"])
        if self.field_embedding is not None:
            found = found + self.field_embedding(values["field"])
        if self.age_line is not None and self.age_waves is not None:
            age, column = values["age"][None], torch.zeros_like(values["item"])[None]
            aged = (self.age_line(age[..., None], column) + self.age_waves(age, column))[0]
            found = found + aged * values["age_known"][:, None].to(aged.dtype)
        return found

    def _items(self, values: Mapping[str, Tensor]) -> Tensor:
        """(n, D): each distinct item embedded once, then handed to all its places; in a recorded graph, each place."""
        if is_capturing():
            return self._distinct(values)
        keys, place = torch.unique(values["item"], return_inverse=True)
        numbers = torch.arange(len(place), device=place.device)
        first = torch.full((len(keys),), len(place), device=place.device).scatter_reduce(0, place, numbers, "amin")
        return self._distinct({name: value[first] for name, value in values.items()})[place]

    def _distinct(self, values: Mapping[str, Tensor]) -> Tensor:
        embedders = {**self.borrowed, **({"table": self.table} if self.table is not None else {})}
        made = {name: embedder(self._group(name, values)) for name, embedder in embedders.items()}
        return mean_of_groups({n: e.tokens for n, e in made.items()}, {n: e.mask for n, e in made.items()})

    @staticmethod
    def _group(name: str, values: Mapping[str, Tensor]) -> TokenGroup:
        """Items (K, T) in one modality, cut to the longest of them; in a recorded graph, in all their room."""
        length, prefix = values[f"{name}.length"], f"{name}."
        arrays = {
            key.removeprefix(prefix): value
            for key, value in values.items()
            if key.startswith(prefix) and key != f"{name}.length"
        }
        room = next(iter(arrays.values())).shape[1]
        longest = room if is_capturing() else max(1, int(length.max()))
        taken = {key: value[:, :longest] for key, value in arrays.items()}
        positions = torch.arange(longest, device=length.device).expand(length.shape[0], longest)
        return TokenGroup(taken, positions < length[:, None], positions)
