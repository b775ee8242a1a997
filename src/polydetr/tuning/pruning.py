"""When a trial is given up: its best score so far lies below what half of the others had at that share of their run.

The median rule of Golovin et al. 2017 (Google Vizier), by the share of the run, so that trials with other batch sizes
are compared at the same share of the same budget, wherever each of them is evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

OTHERS = 4
"""Whole trials, the default among them, before any is given up."""
EARLIEST = 25
"""Percent of its run that every trial gets: before, the learning rate warms up."""


def falls_behind(own: Mapping[int, float], others: Sequence[Mapping[int, float]]) -> str | None:
    """Why the trial is given up; None where it goes on.

    own: percent of the run → score, of what was evaluated so far. others: the same of trials that ran to their end.
    """
    if not own or max(own) < EARLIEST:
        return None
    share = max(own)
    there = [best for other in others if (best := _best(other, share)) is not None]
    if len(there) < OTHERS:
        return None
    best, middle = max(own.values()), median(there)
    if best >= middle:
        return None
    return f"after {share} % of its run {best:.4f}, where half of {len(there)} trials had {middle:.4f} or more"


def _best(curve: Mapping[int, float], share: int) -> float | None:
    """The best score up to this share; None where none was measured by then."""
    return max((score for at, score in curve.items() if at <= share), default=None)
