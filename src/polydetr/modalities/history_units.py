"""The items of a history as units of an explanation."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from polydetr.core.examples import Arrays
from polydetr.core.records import Row
from polydetr.modalities.history_items import as_list
from polydetr.modalities.units import Part, UnitKind, shown_count


class HistoryPart(Part):
    """Items of lists; those that are not read (too old, empty) are no units."""

    group: ClassVar[str] = "history"
    kind: ClassVar[UnitKind] = "items"

    def __init__(self, columns: Sequence[str], indices: Sequence[int], *, names: Sequence[str]) -> None:
        """columns, indices: where each item stands; names: the columns of an item."""
        self.columns, self.indices, self._names = tuple(columns), list(indices), tuple(names)

    def blank(self, arrays: Arrays, window: int) -> dict[str, np.ndarray]:
        """Every item is in its place, and empty."""
        empty = {name for name in arrays if name.endswith(".length") or name in ("item", "age", "age_known")}
        return {name: np.zeros_like(array) if name in empty else array for name, array in arrays.items()}

    def without(self, row: Row, deleted: Collection[int]) -> dict[str, Any]:
        shorter = dict(row)
        for field in set(self.columns):
            out = {self.indices[unit] for unit in deleted if self.columns[unit] == field}
            if out:
                value = row[field]
                items = [] if isinstance(value, (str, Mapping)) else list(value)
                shorter[field] = [item for place, item in enumerate(items) if place not in out]
        return shorter

    def shown(self, value: Any) -> str:
        return shown_count(len(as_list(value)), "item")

    def item(self, row: Row, unit: int) -> str:
        value = row[self.columns[unit]]
        item = value if isinstance(value, (str, Mapping)) else value[self.indices[unit]]
        if not isinstance(item, Mapping):
            return str(item)
        values = [item.get(name) for name in self._names]
        return ", ".join(f"{value}" for value in values if isinstance(value, (str, int, float))) or "an item"
