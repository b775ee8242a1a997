"""Seven zeros and ones → one vector per column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from torch import nn

from polydetr.embedders.base import Embedder
from polydetr.nn.batch import Embedded, TokenGroup

from .modality import DAYS, WeekdaysModality


class WeekdaysEmbedder(Embedder):
    def __init__(self, num_columns: int, embed_dim: int) -> None:
        super().__init__(embed_dim)
        self.days = nn.Linear(len(DAYS), embed_dim)
        self.columns = nn.Embedding(num_columns, embed_dim)

    @classmethod
    def from_modality(
        cls, modality: WeekdaysModality, *, embed_dim: int | None, others: Mapping[str, nn.Module]
    ) -> Self:
        return cls(len(modality.fields), embed_dim or 32)

    def forward(self, group: TokenGroup) -> Embedded:
        days = group.values["days"].to(self.days.weight.dtype)
        return Embedded(self.days(days) + self.columns(group.values["column"]), group.mask)
