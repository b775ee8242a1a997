"""Where rows are few, epochs are a few steps: smaller batches and more epochs, so that a run learns at all.

Five epochs of 142 rows in batches of 78 are ten steps. Fine-tuning on few rows wants many steps more than many rows per
step (Mosbach et al. 2021, arXiv 2006.04884; Zhang et al. 2021, arXiv 2006.05987).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LEAST_ROWS = 8
"""In a batch that is made smaller."""
PRETRAINED_TOKENS = 100_000
"""More epochs than asked for take a pretrained backbone through so many tokens at most: about half a minute."""
EVALUATIONS = 12
"""Of a run that is counted in steps for this reason, whose epochs may be a few batches long."""
PATIENCE = EVALUATIONS // 2
"""Of these without progress end it: weights that begin near the best take a while to find something better."""


class Pace(NamedTuple):
    """budget: padded tokens per step; steps: of the whole run at least, 0 where its epochs are enough."""

    budget: int
    steps: int


def pace(
    lengths: Sequence[int] | np.ndarray, *, batch_tokens: int, epochs: float, min_steps: int, pretrained: bool,
    as_given: bool = False,
) -> Pace:  # fmt: skip
    """How a run goes about its rows. lengths: tokens per example; pretrained: whether a backbone reads them; as_given:
    the user has set ``batch_tokens``, which then stays.
    """
    tokens = float(np.sum(lengths))
    if epochs * tokens >= min_steps * batch_tokens or not tokens:
        return Pace(batch_tokens, 0)
    smallest = batch_tokens if as_given else LEAST_ROWS * tokens / len(lengths)
    budget = min(batch_tokens, max(round(smallest), round(epochs * tokens / min_steps)))
    affordable = PRETRAINED_TOKENS / budget if pretrained else min_steps
    return Pace(budget, int(max(epochs * tokens / budget, min(min_steps, affordable))))
