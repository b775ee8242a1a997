"""How often somebody may ask: token buckets, and a count of wrong keys. Bounded, however many ask."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

_MOST = 10_000
"""Names that are remembered; the one that was longest not seen is forgotten first."""


class Buckets:
    """One bucket per name, which holds ``burst`` tokens and gets ``rate`` a second; a request takes one."""

    def __init__(self, rate: float, burst: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, max(1, burst), clock
        self._held: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str) -> float:
        """0 where a token was there; else the seconds until there is one."""
        now = self._clock()
        tokens, since = self._held.pop(name, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._rate
        self._held[name] = (tokens if wait else tokens - 1, now)
        _forget(self._held)
        return wait


class Failures:
    """How many wrong keys an address has tried within the last ``seconds``; ``most`` are allowed."""

    def __init__(self, most: int, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._tried: OrderedDict[str, deque[float]] = OrderedDict()

    def note(self, address: str) -> float:
        """Counts one more; 0, or the seconds for which the address is refused."""
        now = self._clock()
        tried = self._tried.pop(address, deque())
        while tried and now - tried[0] > self._seconds:
            tried.popleft()
        if len(tried) < self._most:
            tried.append(now)
            wait = 0.0
        else:
            wait = self._seconds - (now - tried[0])
        self._tried[address] = tried
        _forget(self._tried)
        return max(wait, 0.0)


def _forget(held: OrderedDict[str, Any]) -> None:
    while len(held) > _MOST:
        held.popitem(last=False)
