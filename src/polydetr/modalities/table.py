"""Tables: number, category and date columns, one token per column.

A missing cell has a token of its own; a row whose cells are all missing has no tokens. Arrays of one row, with C
columns and K numbers per cell (1, or ``DATE_PARTS`` where there is a date):

    column  int16 (C,)      which column
    number  float32 (C, K)  the scaled number, or the parts of a date; zeros where the cell has none
    code    int32 (C,)      0: the cell is its numbers; otherwise a row of the table of codes (missing, unseen, rare,
                            or a category), in which every column has a range of its own
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from polydetr.core.access import IN_MEMORY, FileAccess
from polydetr.core.documents import EncodedGroup, Window
from polydetr.core.examples import Arrays
from polydetr.core.records import Finding, Row
from polydetr.errors import ModelFolderError
from polydetr.modalities.base import BuildContext, Modality, Needs, digest
from polydetr.modalities.table_columns import (
    KINDS,
    MISSING,
    PRESENT,
    Column,
)
from polydetr.modalities.table_state import column_state, columns_from_state
from polydetr.modalities.units import Part, UnitKind
from polydetr.schema.spec import FieldSpec

if TYPE_CHECKING:
    from polydetr.config.sections import TableConfig

COLUMNS_FILE = "table.json"
_ENCODING = 1
"""Raised whenever ``encode`` gives other tokens for the same columns."""


class TableModality(Modality):
    """``fields`` are the columns that are read, which may be none: ``build`` leaves out those without information, with
    a message.
    """

    name: ClassVar[str] = "table"
    reads: ClassVar[frozenset[str]] = frozenset(KINDS)
    files: ClassVar[frozenset[str]] = frozenset({COLUMNS_FILE})

    def __init__(self, columns: Sequence[Column], *, config: TableConfig, needs: Needs) -> None:
        super().__init__([column.name for column in columns], needs=needs)
        self.columns = tuple(columns)
        self._by_name = {column.name: column for column in columns}
        self.config = config
        self.width = max((column.width for column in columns), default=1) or 1
        # Code 0 is "present"; each column's other codes follow those of the column before it.
        self.offsets = tuple(np.cumsum([0, *(column.num_codes for column in columns)]).tolist())

    @classmethod
    def build(cls, fields: Sequence[FieldSpec], context: BuildContext) -> Self:
        """Learns scales and categories; a column that is empty or the same in all rows is left out, with a message.

        Raises:
            SchemaError: a column has values, and none is of its kind.
        """
        learned = [
            KINDS[field.modality].learn(
                field.name, [row.get(field.name) for row in context.rows], context.config.table, context.notify
            )
            for field in fields
        ]
        columns = [column for column in learned if column is not None]
        return cls(columns, config=context.config.table, needs=context.needs)

    # -- tokens -------------------------------------------------------------------------------------------------------

    def encode(self, rows: Sequence[Row], *, access: FileAccess = IN_MEMORY) -> EncodedGroup:
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

    def value_schema(self, column: str) -> dict[str, Any]:
        return self._by_name[column].schema()

    def example_value(self, column: str) -> Any:
        return self._by_name[column].typical

    def measure(self, column: str, value: Any) -> float | str | None:
        return self._by_name[column].measure(value)

    # -- explanations -------------------------------------------------------------------------------------------------

    def units(self, row: Row, windows: Sequence[Window]) -> TablePart:
        """Its columns; see ``units.HasUnits``."""
        return TablePart(self.fields, windows[0].arrays, codes=[offset + MISSING for offset in self.offsets[:-1]])

    # -- state --------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {**super().state(), "config": self.config.model_dump()}

    def save_files(self, folder: Path) -> None:
        """Scales and categories, of which there may be many."""
        (folder / COLUMNS_FILE).write_text(self._columns_json() + "\n", encoding="utf-8")

    @classmethod
    def from_state(cls, state: Mapping[str, Any], folder: Path, *, others: Mapping[str, Modality]) -> Self:
        from polydetr.config.sections import TableConfig

        path = folder / COLUMNS_FILE
        try:
            columns = columns_from_state(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError) as error:
            raise ModelFolderError(f"{path}: the table's columns cannot be read: {error!s:.300}.") from None
        return cls(columns, config=TableConfig(**state["config"]), needs=Needs.from_state(state["needs"]))

    def fingerprint(self) -> str:
        return digest(_ENCODING, self._columns_json())

    def _columns_json(self) -> str:
        return json.dumps([column_state(column) for column in self.columns], ensure_ascii=True)


class TablePart(Part):
    """The columns of a row, for explanations."""

    group: ClassVar[str] = "table"
    kind: ClassVar[UnitKind] = "columns"

    def __init__(self, columns: Sequence[str], arrays: Arrays, *, codes: Sequence[int]) -> None:
        """codes: of each column, the code of a missing cell."""
        self.columns = tuple(columns)
        self._codes = np.array(codes)
        self._missing = arrays["code"] == self._codes

    def blank(self, arrays: Arrays, window: int) -> dict[str, np.ndarray]:
        """Every cell is missing."""
        code = self._codes[arrays["column"]].astype(arrays["code"].dtype)
        return {**arrays, "number": np.zeros_like(arrays["number"]), "code": code}

    def without(self, row: Row, deleted: Collection[int]) -> dict[str, Any]:
        return {**row, **{self.columns[unit]: None for unit in deleted}}

    @property
    def present(self) -> Sequence[int]:
        return np.flatnonzero(~self._missing).tolist()
