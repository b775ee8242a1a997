"""Tables: number, category and date columns, one token a column.

A missing cell is a token that says so; a row whose cells are all missing has no tokens. Arrays of one row, with C
columns and K numbers a cell (1, or ``DATE_PARTS`` where there is a date):

    column  int16 (C,)      which column
    number  float32 (C, K)  the scaled number, or the parts of a date; zeros where the cell has none
    code    int32 (C,)      0: the numbers say it all; otherwise a row of the table of codes (missing, unseen, rare,
                            or a category), in which every column has a stretch of its own
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from polydetr.config import Config, TableConfig
from polydetr.core.documents import EncodedGroup, Window
from polydetr.core.records import Finding, Row
from polydetr.errors import ModelFolderError
from polydetr.modalities.base import Modality, Note
from polydetr.modalities.table_columns import (
    KINDS,
    MISSING,
    PRESENT,
    UNSEEN,
    Column,
    column_from_state,
    column_state,
)
from polydetr.modalities.table_units import TablePart
from polydetr.nn.batch import Embedded, TokenGroup
from polydetr.nn.numbers import LinearNumbers, PeriodicNumbers
from polydetr.schema.spec import FieldSpec

COLUMNS_FILE = "table.json"
_ENCODING = 1
"""Raised whenever ``encode`` gives other tokens for the same columns."""


class TableModality(Modality):
    """``fields`` are the columns that are read: those that say nothing were left out by ``build``, with a note, and
    may be none at all.
    """

    name: ClassVar[str] = "table"
    reads: ClassVar[frozenset[str]] = frozenset(KINDS)

    def __init__(self, columns: Sequence[Column], *, config: TableConfig) -> None:
        super().__init__([column.name for column in columns])
        self.columns = tuple(columns)
        self.config = config
        self.width = max((column.width for column in columns), default=1) or 1
        # Code 0 is "present"; each column's other codes follow those of the column before it.
        self.offsets = tuple(np.cumsum([0, *(column.num_codes for column in columns)]).tolist())

    @classmethod
    def build(
        cls,
        fields: Sequence[FieldSpec],
        rows: Sequence[Row],
        config: Config,
        *,
        by_word: bool,
        folder: Path | None,
        note: Note,
    ) -> TableModality:
        """Learns scales and categories; a column that is empty or the same in all rows is left out, with a note.

        Raises:
            SchemaError: a column has values, and none is of its kind.
        """
        learned = [
            KINDS[field.modality].learn(field.name, [row.get(field.name) for row in rows], config.table, note)
            for field in fields
        ]
        return cls([column for column in learned if column is not None], config=config.table)

    # -- tokens -------------------------------------------------------------------------------------------------------

    def encode(self, rows: Sequence[Row], *, folder: Path | None = None) -> EncodedGroup:
        """One window: the tokens of the row (of several rows of one document, end to end).

        Raises:
            RowError: a value is of another kind than its column, or infinite.
        """
        findings: list[Finding] = []
        parts = [self._encode_row(row, findings) for row in rows]
        number, code = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        column = np.tile(np.arange(len(self.columns), dtype=np.int16), len(code) // max(1, len(self.columns)))
        return EncodedGroup([Window({"column": column, "number": number, "code": code})], (), findings)

    def _encode_row(self, row: Row, findings: list[Finding]) -> tuple[np.ndarray, np.ndarray]:
        number = np.zeros((len(self.columns), self.width), dtype=np.float32)
        code = np.zeros(len(self.columns), dtype=np.int32)
        all_missing = True
        for i, column in enumerate(self.columns):
            cell = column.cell(row.get(column.name))
            if cell.finding is not None:
                findings.append(cell.finding)
            if cell.numbers:
                number[i, : len(cell.numbers)] = cell.numbers
            if cell.code != PRESENT:
                code[i] = self.offsets[i] + cell.code
            all_missing = all_missing and cell.code == MISSING
        return (number[:0], code[:0]) if all_missing else (number, code)

    def augment(self, group: TokenGroup, generator: torch.Generator) -> TokenGroup:
        """Hides ``column_dropout`` of the cells: numbers become missing; categories missing or unseen, by turns, so
        that both flags mean something when they are met.
        """
        if not self.config.column_dropout or not self.columns:
            return group
        values = dict(group.values)
        column, code = values["column"], values["code"]
        # Drawn on the CPU, so that a seed gives the same on any device.
        chance, side = torch.rand(2, *column.shape, generator=generator).to(column.device)
        offsets = torch.tensor(self.offsets[:-1], device=column.device)
        is_category = torch.tensor([c.kind == "category" for c in self.columns], device=column.device)
        flag = torch.where(is_category[column] & (side < 0.5), UNSEEN, MISSING)
        hidden = chance < self.config.column_dropout
        values["code"] = torch.where(hidden, offsets[column] + flag, code)
        values["number"] = values["number"].masked_fill(hidden[..., None], 0.0)
        return TokenGroup(values, group.mask, group.positions)

    # -- module and state ---------------------------------------------------------------------------------------------

    def units(self, row: Row, windows: Sequence[Window]) -> TablePart:
        """Its columns (``units.HasUnits``)."""
        return TablePart(self.fields, windows[0].arrays, codes=[offset + MISSING for offset in self.offsets[:-1]])

    def build_embedder(self, embed_dim: int | None) -> TableEmbedder:
        return TableEmbedder(
            self.columns, num_codes=self.offsets[-1], width=self.width, embed_dim=embed_dim or 64,
            embedding=self.config.embedding,
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        return {"fields": list(self.fields), "config": self.config.model_dump()}

    def save_files(self, folder: Path) -> None:
        """Scales and categories, of which there may be many."""
        (folder / COLUMNS_FILE).write_text(self._columns_json() + "\n", encoding="utf-8")

    @classmethod
    def from_state(cls, state: Mapping[str, Any], folder: Path) -> TableModality:
        path = folder / COLUMNS_FILE
        try:
            columns = [column_from_state(c) for c in json.loads(path.read_text(encoding="utf-8"))]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelFolderError(f"{path}: the table's columns cannot be read: {error!r}.") from None
        return cls(columns, config=TableConfig(**state["config"]))

    def fingerprint(self) -> str:
        return hashlib.sha256(f"{_ENCODING}{self._columns_json()}".encode(errors="surrogatepass")).hexdigest()

    def _columns_json(self) -> str:
        return json.dumps([column_state(column) for column in self.columns], ensure_ascii=True)


class TableEmbedder(nn.Module):
    """TokenGroup → Embedded (B, L, embed_dim): the column's bias, plus its number's part, plus its code's vector."""

    def __init__(
        self, columns: Sequence[Column], *, num_codes: int, width: int, embed_dim: int, embedding: str
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        num_columns = max(1, len(columns))
        self.numbers = LinearNumbers(num_columns, embed_dim, width=width)
        self.codes = nn.Embedding(1 + num_codes, embed_dim, padding_idx=0)
        nn.init.uniform_(self.codes.weight, -(embed_dim**-0.5), embed_dim**-0.5)
        is_number = torch.tensor([c.kind == "number" for c in columns] or [False])
        self.periodic = None
        if embedding == "periodic" and bool(is_number.any()):
            self.periodic = PeriodicNumbers(num_columns, embed_dim)
        self.register_buffer("is_number", is_number, persistent=False)
        with torch.no_grad():  # what is not met in training says no more than the column's bias
            self.codes.weight[0] = 0
            offset = 0
            for column in columns:
                self.codes.weight[offset + 1 : offset + min(UNSEEN, column.num_codes) + 1] = 0
                offset += column.num_codes

    def forward(self, group: TokenGroup) -> Embedded:
        values = group.values
        column, number, code = values["column"], values["number"], values["code"]
        tokens = self.numbers(number, column) + self.codes(code)
        if self.periodic is not None:
            read: Tensor = self.is_number[column] & (code == 0)  # type: ignore[index]
            tokens = tokens + self.periodic(number[..., 0], column).masked_fill(~read[..., None], 0.0)
        return Embedded(tokens, group.mask)
