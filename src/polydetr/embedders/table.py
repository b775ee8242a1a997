"""Tables: numbers and codes → one vector per column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from polydetr.embedders.base import Embedder
from polydetr.modalities.table import TableModality
from polydetr.modalities.table_columns import MISSING, UNSEEN
from polydetr.nn.batch import Embedded, Scene, TokenGroup
from polydetr.nn.numbers import LinearNumbers, PeriodicNumbers


class TableEmbedder(Embedder):
    """TokenGroup → Embedded (B, L, embed_dim): the column's bias, plus its number's term, plus its code's vector.

    Numbers also give sinusoids where ``table.embedding`` is "periodic". Training hides the share
    ``table.column_dropout`` of the cells.
    """

    def __init__(self, modality: TableModality, *, embed_dim: int) -> None:
        super().__init__(embed_dim)
        columns, config = modality.columns, modality.config
        self.offsets, self.column_dropout = modality.offsets, config.column_dropout
        self.categories = tuple(column.kind == "category" for column in columns)
        num_columns = max(1, len(columns))
        self.numbers = LinearNumbers(num_columns, embed_dim, width=modality.width)
        self.codes = nn.Embedding(1 + self.offsets[-1], embed_dim, padding_idx=0)
        nn.init.uniform_(self.codes.weight, -(embed_dim**-0.5), embed_dim**-0.5)
        is_number = [c.kind == "number" for c in columns] or [False]
        self.periodic = None
        if config.embedding == "periodic" and any(is_number):
            self.periodic = PeriodicNumbers(num_columns, embed_dim)
        self.register_buffer("is_number", torch.tensor(is_number), persistent=False)
        with torch.no_grad():  # codes that do not occur in training add nothing to the column's bias
            self.codes.weight[0] = 0
            for offset, column in zip(self.offsets, columns, strict=False):
                self.codes.weight[offset + 1 : offset + min(UNSEEN, column.num_codes) + 1] = 0

    @classmethod
    def from_modality(cls, modality: TableModality, *, embed_dim: int | None, others: Mapping[str, nn.Module]) -> Self:
        return cls(modality, embed_dim=embed_dim or 64)

    def augment(
        self, group: TokenGroup, generator: torch.Generator, *, progress: float = 0.0
    ) -> tuple[TokenGroup, Scene | None]:
        """Hides the share ``column_dropout`` of the cells: numbers and dates become missing; categories missing or
        unseen, half of them each, so that the model learns both flags.
        """
        if not self.column_dropout or not self.categories:
            return group, None
        values = dict(group.values)
        column, code = values["column"], values["code"]
        # Drawn on the CPU, so that a seed gives the same on any device.
        chance, side = torch.rand(2, *column.shape, generator=generator).to(column.device)
        offsets = torch.tensor(self.offsets[:-1], device=column.device)
        is_category = torch.tensor(self.categories, device=column.device)
        flag = torch.where(is_category[column] & (side < 0.5), UNSEEN, MISSING)
        hidden = chance < self.column_dropout
        values["code"] = torch.where(hidden, offsets[column] + flag, code)
        values["number"] = values["number"].masked_fill(hidden[..., None], 0.0)
        return TokenGroup(values, group.mask, group.positions), None

    def forward(self, group: TokenGroup) -> Embedded:
        values = group.values
        column, number, code = values["column"], values["number"], values["code"]
        tokens = self.numbers(number, column) + self.codes(code)
        if self.periodic is not None:
            read: Tensor = self.is_number[column] & (code == 0)  # type: ignore[index]
            tokens = tokens + self.periodic(number[..., 0], column).masked_fill(~read[..., None], 0.0)
        return Embedded(tokens, group.mask)
