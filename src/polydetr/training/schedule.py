"""How fast the model learns as training goes on, in terms of progress from 0 to 1."""

from __future__ import annotations

import math
from typing import Literal


def learning_rate_factor(progress: float, *, warmup: float, schedule: Literal["linear", "cosine", "constant"]) -> float:
    """Linear warm-up (Goyal et al. 2017, arXiv 1706.02677), then decay to zero; multiplies the peak learning rate.

    progress: fraction of the steps done, or of the time where a limit ends the run first.
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup:
        return progress / warmup
    left = (1.0 - progress) / max(1e-9, 1.0 - warmup)
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * (1.0 - left)))
    return left
