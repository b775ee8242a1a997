"""What an attribution is, however it came about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Attribution:
    """scores: one per part of the row; value: the explained number F(x), baseline: the same with everything blanked,
    F(x'); error = |Σ scores - (value - baseline)|.
    """

    scores: np.ndarray
    value: float
    baseline: float
    error: float

    @property
    def is_complete(self) -> bool:
        """The sum is right within 5 % of the difference, or within 0.005 of F's unit where nothing changed."""
        return self.error <= max(0.05 * abs(self.value - self.baseline), 0.005)
