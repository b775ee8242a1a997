"""The tokens of a history: one per item, made by the embedders of the modalities that an item is read with.

Shapes: B examples, N items, K distinct items of the batch, D ``embed_dim``; the arrays are those of
``modalities.history``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from polydetr.embedders.base import Embedder, column_embedding, small_embedding
from polydetr.embedders.table import TableEmbedder
from polydetr.modalities.history import HistoryModality
from polydetr.nn.batch import Embedded, TokenGroup
from polydetr.nn.cpu.linear import is_capturing
from polydetr.nn.numbers import LinearNumbers, PeriodicNumbers
from polydetr.nn.pooling import mean_of_groups


class HistoryEmbedder(Embedder):
    """TokenGroup → Embedded (B, N, D): one token per item.

    others: the embedders of the other modalities. Those that read items are held in ``borrowed``, but not registered
    here, so that they stand in the state dict once, under their own names.
    """

    def __init__(self, modality: HistoryModality, *, embed_dim: int, others: Mapping[str, nn.Module]) -> None:
        super().__init__(embed_dim)
        table, max_items, num_fields = modality.table, modality.config.max_items, len(modality.fields)
        with_age = modality.config.age is not None
        self.table = TableEmbedder(table, embed_dim=embed_dim) if table is not None else None
        # A plain dict, so that nothing in it is registered here.
        self.borrowed = {name: others[name] for name in modality.parts if name in others and name != "table"}
        self.order_embedding = small_embedding(max_items + 1, embed_dim)
        self.field_embedding = column_embedding(num_fields, embed_dim)
        self.age_line = LinearNumbers(1, embed_dim) if with_age else None
        self.age_waves = PeriodicNumbers(1, embed_dim) if with_age else None

    @classmethod
    def from_modality(
        cls, modality: HistoryModality, *, embed_dim: int | None, others: Mapping[str, nn.Module]
    ) -> Self:
        return cls(modality, embed_dim=embed_dim or 64, others=others)

    def forward(self, group: TokenGroup) -> Embedded:
        mask, weight = group.mask, self.order_embedding.weight
        if is_capturing():  # every position is embedded, also padding: a graph cannot select by the mask
            items = self._tokens({name: value.flatten(0, 1) for name, value in group.values.items()})
            tokens = items.to(weight.dtype).unflatten(0, mask.shape)
            return Embedded(tokens.masked_fill(~mask[..., None], 0.0), mask)
        tokens = weight.new_zeros(*mask.shape, self.embed_dim)
        if bool(mask.any()):
            items = self._tokens({name: value[mask] for name, value in group.values.items()})
            tokens = tokens.index_put((mask,), items.to(tokens.dtype))
        return Embedded(tokens, mask)

    def _tokens(self, values: Mapping[str, Tensor]) -> Tensor:
        """Items (n, ...) → (n, D)."""
        tokens = self._items(values) + self.order_embedding(values["order"])
        if self.field_embedding is not None:
            tokens = tokens + self.field_embedding(values["field"])
        if self.age_line is not None and self.age_waves is not None:
            age, column = values["age"][None], torch.zeros_like(values["item"])[None]
            aged = (self.age_line(age[..., None], column) + self.age_waves(age, column))[0]
            tokens = tokens + aged * values["age_known"][:, None].to(aged.dtype)
        return tokens

    def _items(self, values: Mapping[str, Tensor]) -> Tensor:
        """(n, D): each distinct item is embedded once, then copied to all its positions; in a recorded graph, each
        position.
        """
        if is_capturing():
            return self._distinct(values)
        keys, place = torch.unique(values["item"], return_inverse=True)
        numbers = torch.arange(len(place), device=place.device)
        first = torch.full((len(keys),), len(place), device=place.device).scatter_reduce(0, place, numbers, "amin")
        return self._distinct({name: value[first] for name, value in values.items()})[place]

    def _distinct(self, values: Mapping[str, Tensor]) -> Tensor:
        embedders = {**self.borrowed, **({"table": self.table} if self.table is not None else {})}
        embedded = {name: embedder(self._group(name, values)) for name, embedder in embedders.items()}
        return mean_of_groups({n: e.tokens for n, e in embedded.items()}, {n: e.mask for n, e in embedded.items()})

    @staticmethod
    def _group(name: str, values: Mapping[str, Tensor]) -> TokenGroup:
        """The arrays (K, T, ...) of items in one modality, cut to the longest item; in a recorded graph, of the full
        length.
        """
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
