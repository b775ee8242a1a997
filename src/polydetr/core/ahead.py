"""``map`` in threads, in order, some results ahead of the consumer."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")

AHEAD = 64
"""Documents that are decoded ahead of the model at most, where that takes long (images): a bound on memory."""


def cores() -> int:
    """The number of CPU cores that this process may use: its affinity, or fewer where ``OMP_NUM_THREADS`` is less."""
    given = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return min(given, int(wanted)) if wanted.isdecimal() and int(wanted) else given


def ahead(function: Callable[[_T], _R], items: Iterable[_T], *, workers: int) -> Iterator[_R]:
    """``map`` in order, up to ``AHEAD`` results ahead in threads; in this thread where ``workers`` is below two.

    Decoding and resizing images leave the interpreter free, so that threads do what processes would, without
    copying the pixels between them.
    """
    if workers < 2:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        yield from ahead_in(pool, function, items, window=AHEAD)


def ahead_in(
    pool: ThreadPoolExecutor, function: Callable[[_T], _R], items: Iterable[_T], *, window: int
) -> Iterator[_R]:
    """``map`` in order, up to ``window`` results ahead in the threads of ``pool``."""
    waiting: deque[Future[_R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= window:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
