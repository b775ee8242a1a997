"""In the front process: how far the rows of the last windows are from the training rows (``engine.profile``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from polydetr.engine.profile import MISSING, ColumnProfile

WINDOW = 1000
"""Rows per window: what is told rests on the window that is being filled and the one before it."""
LEAST_ROWS = 200
"""With fewer rows nothing is told."""


@dataclass(frozen=True)
class Drift:
    """One column. psi, missing: None with fewer than ``LEAST_ROWS`` rows; bins: (what is in it, share of the training
    rows, share of these rows), those of numbers in their order, of names the most frequent in training first.
    """

    column: str
    rows: int
    psi: float | None
    missing: float | None
    bins: Sequence[tuple[str, float, float]]


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

    def drifts(self) -> list[Drift]:
        """Every column, as it is now."""
        told, found = self.told(), []
        for column, profile in self.profiles.items():
            counts = self._last.get(column, Counter()) + self._filling[column]
            rows = counts.total()
            psi, missing, _ = told.get(column, (None, None, 0))
            shares = {name: counts[name] / rows if rows else 0.0 for name in profile.shares.keys() | counts.keys()}
            bins = [(label, profile.shares.get(n, 0.0), shares.get(n, 0.0)) for n, label in profile.bins().items()]
            found.append(Drift(column, rows, psi, missing, [one for one in bins if one[1] or one[2]]))
        return found

    def told(self) -> dict[str, tuple[float, float, int]]:
        """Column → PSI, share of missing values, rows; of the columns with rows enough."""
        told = {}
        for column, profile in self.profiles.items():
            counts = self._last.get(column, Counter()) + self._filling[column]
            if (rows := counts.total()) >= LEAST_ROWS:
                told[column] = profile.psi(counts), counts[MISSING] / rows, rows
        return told
