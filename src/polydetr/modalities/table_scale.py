"""The scale of a column of numbers: learned from the training rows, it maps any finite number to about N(0, 1)."""

from __future__ import annotations

import functools
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

KNOTS = 256
"""Quantiles that are kept of a column whose numbers are mapped to a normal distribution."""

BEYOND = 0.5
"""How far outside the training range a number may lie, in widths of that range, before it is clipped with a warning."""

_NORMAL = NormalDist()
_EDGE = 0.5 / KNOTS  # the outermost ranks lie at ±2.9 std
_LARGEST = 1e4


@dataclass(frozen=True)
class Scale:
    """Maps numbers to about N(0, 1): by mean and standard deviation, or, with ``knots`` (quantiles of the training
    values), by rank.

    low, high: smallest and largest training value. All arithmetic stays finite for any finite float.
    """

    mean: float
    std: float
    low: float
    high: float
    knots: tuple[float, ...] = ()

    @classmethod
    def learn(cls, values: Sequence[float], *, quantile: bool) -> Scale:
        x = np.asarray(values, dtype=np.float64)
        tiny = float(np.finfo(np.float64).tiny)
        unit = float(np.abs(x).max())  # sums of huge numbers would overflow, squares of tiny ones vanish
        unit = unit if unit >= tiny else 1.0
        scaled = x / unit
        std = max(float(scaled.std()) * unit, 4 * tiny)
        knots: tuple[float, ...] = ()
        if quantile:
            knots = tuple(np.quantile(scaled, np.linspace(0, 1, min(KNOTS, len(x)))) * unit)
        return cls(float(scaled.mean()) * unit, std, float(x.min()), float(x.max()), tuple(map(float, knots)))

    @functools.cached_property
    def limits(self) -> tuple[float, float]:
        """Where numbers are clipped."""
        room = BEYOND * (self.high / 2 - self.low / 2) * 2
        largest = float(np.finfo(np.float64).max)
        return max(self.low - room, -largest), min(self.high + room, largest)

    @property
    def middle(self) -> float:
        """The median where it is known, the mean otherwise."""
        return self.knots[len(self.knots) // 2] if self.knots else self.mean

    def apply(self, value: float) -> float:
        """The scaled number, clipped to ``limits``: always finite."""
        if self.low == self.high:
            return 0.0
        low, high = self.limits
        value = min(max(value, low), high)
        if self.knots:
            return _NORMAL.inv_cdf(min(max(self._rank(value), _EDGE), 1 - _EDGE))
        # Halves, because the difference of two extremes overflows.
        return min(max((value / 2 - self.mean / 2) / (self.std / 2), -_LARGEST), _LARGEST)

    def _rank(self, value: float) -> float:
        """The share of the knots below the value, 0 … 1; ties take the middle of their ranks."""
        first, after = bisect_left(self.knots, value), bisect_right(self.knots, value)
        if after > first:
            place = (first + after - 1) / 2
        elif 0 < first < len(self.knots):
            below, above = self.knots[first - 1] / 2, self.knots[first] / 2
            place = first - 1 + ((value / 2 - below) / (above - below) if above > below else 0.5)
        else:
            place = 0 if first == 0 else len(self.knots) - 1
        return place / (len(self.knots) - 1)
