"""The cells of a table row as an explanation speaks of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, ClassVar

import numpy as np

from polydetr.core.examples import Arrays
from polydetr.core.records import Row
from polydetr.modalities.units import Part, Scores, UnitKind


class TablePart(Part):
    """Columns of numbers, categories and dates."""

    group: ClassVar[str] = "table"
    kind: ClassVar[UnitKind] = "columns"

    def __init__(self, columns: Sequence[str], arrays: Arrays, *, codes: Sequence[int]) -> None:
        """codes: of each column, the one of a missing cell."""
        self.columns = tuple(columns)
        self._codes = np.array(codes)
        self._missing = arrays["code"] == self._codes

    def blank(self, arrays: Arrays, window: int) -> dict[str, np.ndarray]:
        """Every cell missing."""
        code = self._codes[arrays["column"]].astype(arrays["code"].dtype)
        return {**arrays, "number": np.zeros_like(arrays["number"]), "code": code}

    def scores(self, found: Scores) -> Scores:
        return found.reshape(len(found), len(self), -1).sum((0, 2))

    def without(self, row: Row, gone: Collection[int]) -> dict[str, Any]:
        return {**row, **{self.columns[unit]: None for unit in gone}}

    @property
    def seen(self) -> Sequence[int]:
        return np.flatnonzero(~self._missing).tolist()
