"""How far a score could have fallen otherwise: percentile bootstrap over rows (Efron 1979)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from polydetr.errors import InputError

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Interval:
    """``estimate`` on all rows; with probability ``level`` the score of such a sample lies in [low, high]."""

    estimate: float
    low: float
    high: float
    level: float

    def to_dict(self) -> dict[str, Any]:
        return {"estimate": self.estimate, "low": self.low, "high": self.high, "level": self.level}

    def __str__(self) -> str:
        return f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"


def confidence_interval(
    statistic: Callable[[Sequence[Item]], float],
    items: Sequence[Item],
    *,
    seed: int = 0,
    n: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Draws ``n`` samples of len(items) rows with replacement and takes the outer percentiles of ``statistic`` over
    them.

    An item is what was drawn independently: a document, not a token. The same seed gives the same interval. A sample on
    which the statistic is undefined (it raises InputError, as :func:`auroc` does with one class) is drawn again, at
    most ``10 n`` times in all.

    Raises:
        InputError: no items, ``n`` < 1, a level outside (0, 1), or a statistic that is undefined on nearly every
            sample.
    """
    if not len(items) or n < 1 or not 0 < level < 1:
        raise InputError(
            f"A bootstrap needs items, n >= 1 and 0 < level < 1; got {len(items)} items, n = {n}, level = {level}."
        )
    random = np.random.default_rng(seed)
    values: list[float] = []
    for _ in range(10 * n):
        sample = [items[i] for i in random.integers(0, len(items), len(items))]
        try:
            values.append(float(statistic(sample)))
        except InputError:
            continue
        if len(values) == n:
            break
    if len(values) < n:
        raise InputError(
            f"The statistic is undefined on {10 * n - len(values)} of {10 * n} samples; too few rows to bootstrap."
        )
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(items)), float(low), float(high), level)
