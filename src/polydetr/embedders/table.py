"""Tables: numbers and codes → one vector per column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self, cast

import torch
from torch import Tensor, nn

from polydetr.embedders.base import Embedder
from polydetr.embedders.entry import Entry, InputEntry, TokenEntry
from polydetr.modalities.table import TableModality
from polydetr.modalities.table_columns import MISSING, UNSEEN
from polydetr.nn.batch import Embedded, Scene, TokenGroup
from polydetr.nn.numbers import Cells, CellSums, LinearNumbers, PeriodicNumbers


class TableEmbedder(Embedder):
    """TokenGroup → Embedded (B, L, embed_dim): the column's bias, plus its number's term, plus its code's vector.

    Numbers also give sinusoids where ``table.embedding`` is "periodic". Training hides the share
    ``table.column_dropout`` of the cells. Beside its token a cell may have a summand of some outputs (``AddsUp``).
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
        self.width = modality.width
        self.sums = nn.ModuleDict()
        self.vectors = nn.Identity()
        with torch.no_grad():  # codes that do not occur in training add nothing to the column's bias
            self.codes.weight[0] = 0
            for offset, column in zip(self.offsets, columns, strict=False):
                self.codes.weight[offset + 1 : offset + min(UNSEEN, column.num_codes) + 1] = 0

    @classmethod
    def from_modality(cls, modality: TableModality, *, embed_dim: int | None, others: Mapping[str, nn.Module]) -> Self:
        return cls(modality, embed_dim=embed_dim or 64)

    def add_up(self, name: str, num_outputs: int, *, rank: int) -> None:
        num_columns, num_codes = len(self.categories) or 1, 1 + self.offsets[-1]
        rank = rank if len(self.categories) > 1 else 0
        self.sums[name] = CellSums(num_columns, num_codes, num_outputs, rank=rank, width=self.width)

    def sums_of(self, name: str) -> CellSums:
        return cast(CellSums, self.sums[name])

    def cells_of(self, group: TokenGroup) -> Cells:
        values = group.values
        column, code = values["column"], values["code"]
        is_number: Tensor = self.is_number[column]  # type: ignore[index]
        return Cells(values["number"], column, code, is_number & (code == 0))

    def entry(self) -> Entry:
        return InputEntry(self, self.vectors) if self.sums else TokenEntry(self)

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
        cells = self.cells_of(group)
        tokens = self.numbers(cells.numbers, cells.columns) + self.codes(cells.codes)
        if self.periodic is not None:
            waves = self.periodic(cells.numbers[..., 0], cells.columns)
            tokens = tokens + waves.masked_fill(~cells.is_curve[..., None], 0.0)
        if not self.sums:
            return Embedded(tokens, group.mask)
        summands = [self.sums_of(name)(cells) for name in self.sums]
        vectors = self.vectors(torch.cat([tokens, *summands], dim=-1))  # by which the cells enter
        parts = vectors.split([self.embed_dim, *(part.shape[-1] for part in summands)], dim=-1)
        return Embedded(parts[0].to(tokens.dtype), group.mask, sums=dict(zip(self.sums, parts[1:], strict=True)))
