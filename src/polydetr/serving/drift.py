"""In the front process: how far the rows of the last windows are from the training rows (``engine.profile``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from polydetr.engine.profile import MISSING, ColumnProfile

WINDOW = 1000
"""Rows per window: what is told rests on the window that is being filled and the one before it."""
LEAST_ROWS = 200
"""With fewer rows nothing is told."""


class Windows:
    """One model version's columns. profiles: as its folder has them."""

    def __init__(self, profiles: Mapping[str, ColumnProfile]) -> None:
        self.profiles = dict(profiles)
        self._last: dict[str, Counter[str]] = {}
        self._filling: dict[str, Counter[str]] = {column: Counter() for column in profiles}

    def add(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Column → bin → rows."""
        for column, bins in counts.items():
            filling = self._filling.get(column)
            if filling is None:
                continue
            filling.update(bins)
            if filling.total() >= WINDOW:
                self._last[column], self._filling[column] = filling, Counter()

    def told(self) -> dict[str, tuple[float, float, int]]:
        """Column → PSI, share of missing values, rows; of the columns with rows enough."""
        told = {}
        for column, profile in self.profiles.items():
            counts = self._last.get(column, Counter()) + self._filling[column]
            if (rows := counts.total()) >= LEAST_ROWS:
                told[column] = profile.psi(counts), counts[MISSING] / rows, rows
        return told
