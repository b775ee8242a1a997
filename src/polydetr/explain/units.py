"""The units of all modalities of a row (``modalities.units``), numbered consecutively."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from polydetr.core.records import Row
from polydetr.modalities.units import Part, ReadsWords, Scores


class Units:
    """The units of all parts of a row, numbered consecutively from 0."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self._starts = np.cumsum([0, *map(len, parts)]).tolist()
        self.text = next((part for part in parts if isinstance(part, ReadsWords)), None)

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def columns(self) -> list[str]:
        """The column of every unit."""
        return [column for part in self.parts for column in part.columns]

    @property
    def seen(self) -> list[int]:
        """The units that the model has read."""
        return [start + unit for start, part in zip(self._starts, self.parts, strict=False) for unit in part.present]

    @property
    def probes(self) -> list[set[int]]:
        """The probes of all parts, one after another: units that are taken away together."""
        parts = zip(self._starts, self.parts, strict=False)
        return [{start + unit for unit in probe} for start, part in parts for probe in part.probes]

    @property
    def present(self) -> set[str]:
        """The columns of which something was read; all others are missing."""
        columns = self.columns
        return {columns[unit] for unit in self.seen}

    def split(self, scores: Scores) -> dict[str, Scores]:
        """Group → its own units' scores."""
        cut = np.split(scores, self._starts[1:-1]) if self.parts else []
        return {part.group: own for part, own in zip(self.parts, cut, strict=True)}

    def without(self, row: Row, gone: Collection[int]) -> Row:
        """The row with those units deleted."""
        shorter: Row = row
        for part, own in self._own(gone):
            shorter = part.without(shorter, own) if own else shorter
        return shorter

    def counts(self, gone: Collection[int]) -> dict[str, float]:
        """How many of the units are of each kind."""
        return {part.kind: float(len(own)) for part, own in self._own(gone) if own}

    def word(self, index: int) -> int:
        """The unit that is word ``index`` of the windowed text, into which answers point."""
        assert self.text is not None
        return self._starts[[part.group for part in self.parts].index(self.text.group)] + self.text.number(index)

    def _own(self, gone: Collection[int]) -> list[tuple[Part, set[int]]]:
        return [
            (part, {unit - start for unit in gone if start <= unit < start + len(part)})
            for start, part in zip(self._starts, self.parts, strict=False)
        ]
