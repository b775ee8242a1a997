"""``map`` in order, some results ahead of whoever takes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")

AHEAD = 64
"""Documents that are decoded ahead of the model at most, where that takes long (images): a bound on memory."""


def ahead(function: Callable[[_T], _R], items: Iterable[_T], *, workers: int, window: int = AHEAD) -> Iterator[_R]:
    """``map`` in order, up to ``window`` results ahead in threads; in this thread where ``workers`` is below two.

    Decoding and resizing pictures leave the interpreter free, so that threads do what processes would, without
    copying the pixels between them.
    """
    if workers < 2:
        yield from map(function, items)
        return
    waiting: deque[Future[_R]] = deque()
    with ThreadPoolExecutor(workers) as pool:
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
