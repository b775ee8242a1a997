"""What the training rows looked like, column by column, in a few numbers, and how far other rows are from that.

Each column is measured by one number or name per row (``Modality.measure``): the value of a number, the year of a date,
the name of a category, the characters of a text, how many images or items. The population stability index compares the
shares p of the bins in the training rows with the shares q in others:

    PSI = Σ_b (p_b - q_b) · ln(p_b / q_b)

a symmetric Kullback-Leibler divergence (Kullback and Leibler 1951), by this name in use for credit scores (Siddiqi,
"Credit Risk Scorecards", 2006): below 0.1 nothing changed, from 0.25 on much did. Among B bins, n rows that are like N
training rows have a PSI of (B - 1)(1/n + 1/N) on average (Yurdakul and Naranjo 2020), so that few rows tell nothing.
It notices what changes in the columns, and not whether the answers are still right.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np

from polydetr.core.records import Record
from polydetr.engine.encode import RowEncoder
from polydetr.modalities.base import Modality

MOST_ROWS = 20_000
"""Training rows that are looked at, evenly spread."""
BINS = 10
MOST_NAMES = 20
LEAST_SHARE = 1e-4
"""Of a bin in PSI: an empty one would make it infinite."""
MISSING, UNREADABLE, OTHER = "missing", "unreadable", "other"


@dataclass(frozen=True)
class ColumnProfile:
    """edges: between the bins of numbers, about a tenth of the rows in each; names: the most frequent ones, where the
    column is measured by names. shares: of the training rows, by bin; rows: how many they are.
    """

    edges: tuple[float, ...]
    names: tuple[str, ...]
    shares: Mapping[str, float]
    rows: int

    @classmethod
    def learn(cls, values: Sequence[float | str | None]) -> Self:
        """values: as ``measured`` gives them, one per row."""
        numbers = [value for value in values if isinstance(value, float)]
        named = Counter(value for value in values if isinstance(value, str) and value != UNREADABLE)
        names = tuple(name for name, _ in named.most_common(MOST_NAMES))
        edges: tuple[float, ...] = ()
        if numbers:
            found = np.quantile(np.array(numbers), np.linspace(0, 1, BINS + 1)[1:-1])
            edges = tuple(sorted(set(map(float, found))))
        empty = cls(edges, names, {}, len(values))
        counts = Counter(map(empty.bin_of, values))
        return cls(edges, names, {b: n / len(values) for b, n in sorted(counts.items())}, len(values))

    def bin_of(self, value: float | str | None) -> str:
        """The bin of a measured value."""
        if value is None:
            return MISSING
        if isinstance(value, float):
            return str(bisect_right(self.edges, value))
        if value == UNREADABLE:
            return UNREADABLE
        return f"={value}" if value in self.names else OTHER

    def bins(self) -> dict[str, str]:
        """Bin → what is in it, in their order."""
        bounds = [f"{edge:.4g}" for edge in self.edges]
        numbers = [f"< {bounds[0]}", *(f"{a} – {b}" for a, b in pairwise(bounds)), f"≥ {bounds[-1]}"] if bounds else []
        named = {f"={name}": name for name in self.names}
        return {str(i): label for i, label in enumerate(numbers)} | named | {o: o for o in (OTHER, MISSING, UNREADABLE)}

    def psi(self, counts: Mapping[str, float]) -> float:
        """The population stability index of rows with so many in each bin."""
        total = sum(counts.values())
        index = 0.0
        for one in self.shares.keys() | counts.keys():
            p = max(LEAST_SHARE, self.shares.get(one, 0.0))
            q = max(LEAST_SHARE, counts.get(one, 0) / total)
            index += (p - q) * math.log(p / q)
        return index

    def to_dict(self) -> dict[str, Any]:
        return {"edges": list(self.edges), "names": list(self.names), "shares": dict(self.shares), "rows": self.rows}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """The inverse of ``to_dict``. Raises KeyError, TypeError, ValueError."""
        shares = {str(name): float(share) for name, share in saved["shares"].items()}
        return cls(tuple(map(float, saved["edges"])), tuple(map(str, saved["names"])), shares, int(saved["rows"]))


def measured(modality: Modality, column: str, value: Any) -> float | str | None:
    """The number or name that stands for a value; None where it is missing, ``UNREADABLE`` where it is neither."""
    try:
        return modality.measure(column, value)
    except Exception:  # of a row that is answered by an error
        return UNREADABLE


def profile_of(encoder: RowEncoder, records: Sequence[Record]) -> dict[str, Any]:
    """Column → its profile in JSON terms, of every column that is read; {} without rows."""
    step = max(1, -(-len(records) // MOST_ROWS))
    rows = [record.row for record in records[::step]]
    if not rows:
        return {}
    return {
        column: ColumnProfile.learn([measured(modality, column, row.get(column)) for row in rows]).to_dict()
        for modality in encoder.read.values()
        for column in modality.fields
    }


class Counted:
    """Rows counted into the bins of their columns. profiles: column → its profile, of those that have one."""

    def __init__(self, encoder: RowEncoder, profiles: Mapping[str, ColumnProfile]) -> None:
        self._columns = [
            (column, modality, profiles[column])
            for modality in encoder.read.values()
            for column in modality.fields
            if column in profiles
        ]
        self.counts: dict[str, Counter[str]] = {column: Counter() for column, _, _ in self._columns}
        self.rows = 0

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            self.rows += 1
            for column, modality, profile in self._columns:
                self.counts[column][profile.bin_of(measured(modality, column, row.get(column)))] += 1

    def take(self) -> dict[str, dict[str, int]]:
        """Column → bin → rows since the last time."""
        taken = {column: dict(counts) for column, counts in self.counts.items()}
        for counts in self.counts.values():
            counts.clear()
        self.rows = 0
        return taken


def profiles_in(manifest: Mapping[str, Any]) -> dict[str, ColumnProfile]:
    """The profiles that a model folder holds; none in older ones."""
    saved = manifest.get("profile", {})
    try:
        return {str(column): ColumnProfile.from_dict(profile) for column, profile in saved.items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}
