"""Which of two computations this machine does faster."""

from __future__ import annotations

from collections.abc import Callable

_TURNS = 6


def speedup(fast: Callable[[], object], slow: Callable[[], object], clock: Callable[[], float]) -> float:
    """Time of ``slow`` over that of ``fast``. The two are timed in turn and the best of each counts, so that other
    programs on the machine decide little.
    """
    best = {fast: float("inf"), slow: float("inf")}
    for turn in range(_TURNS):
        for job in best:
            start = clock()
            job()
            if turn:  # the first brings kernels and memory
                best[job] = min(best[job], clock() - start)
    return best[slow] / best[fast]
