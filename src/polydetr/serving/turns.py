"""In a model process: which rows are encoded and computed next, and which are computed together.

Nothing waits for company: whoever asks for work gets what is there at once, so that a lone row goes alone, and rows
gather only while the model is busy. A turn is a budget of tokens, not of requests. It begins with the row whose turn it
is, and is filled with the rows nearest to it in length, so that little is padding. Where little waits, a turn is a part
of it: all rows of a turn are answered when it ends, so that a few rows are answered sooner one after another than
together, while many are worth the larger batches (``benchmarks/service.py latency``).

Whose turn it is follows start-time fair queueing (Goyal, Vin and Cheng 1996): a row has the tag max(V, end of its
request's last row), where V is the tag of the last row that was served, and ends its cost in tokens later. A request of
10,000 rows has tags far ahead; a single row that comes now has the tag V and is next.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from polydetr.serving.parcels import Piece

ENCODED_TURNS = 4
"""So many turns of rows are encoded before the next is computed, if there are: enough to choose by length from."""
_TOKENS = 32.0
_LEAST_TURN, _PARTS = 96, 3
"""Tokens that a turn always may have, and into how many turns at least that what waits is parted: by a simulation of
rows of 5 to 60 words at half of saturation, the slowest hundredth waits two thirds as long (where a batch saves much)
to half as long (where it saves little) as with turns that take all there is.
"""


@dataclass(eq=False)
class Arrival:
    """Rows of one request as they came, not read yet. deadline: of ``time.monotonic``."""

    message: dict[str, Any]
    parts: Sequence[bytes]
    deadline: float
    tag: float = 0.0

    @property
    def request(self) -> int:
        return self.message["request"]

    @property
    def rows(self) -> int:
        return len(self.message["images"])


@dataclass(frozen=True)
class Work:
    """What is to be done next: rows to encode, a turn to compute, or those that are too late for either."""

    encode: Arrival | None = None
    compute: Sequence[Piece] = ()
    late: Sequence[int] = ()


class Pool:
    """Rows that wait. Filled by one thread, emptied by another; rows of ``add_spare`` only where no others wait."""

    def __init__(self, *, budget: int) -> None:
        """budget: tokens per turn."""
        self.budget = budget
        self._changed = threading.Condition()
        self._arrived: list[Arrival] = []
        self._waiting: list[Piece] = []
        self._spare: list[Piece] = []
        self._ends: dict[int, float] = {}
        self._now = 0.0
        self._mean = _TOKENS

    def arrive(self, arrival: Arrival) -> None:
        with self._changed:
            arrival.tag = max(self._now, self._ends.get(arrival.request, 0.0))
            self._ends[arrival.request] = arrival.tag + arrival.rows * self._mean
            self._arrived.append(arrival)
            self._changed.notify()

    def add(self, pieces: Iterable[Piece], *, tag: float) -> None:
        """Encoded rows of an arrival, which had this tag."""
        with self._changed:
            for piece in pieces:
                piece.tag, tag = tag, tag + piece.tokens
                self._mean += (piece.tokens - self._mean) / 64
                self._waiting.append(piece)
            self._changed.notify()

    @property
    def spare(self) -> int:
        """How many rows wait for idle times."""
        with self._changed:
            return len(self._spare)

    def add_spare(self, pieces: Sequence[Piece]) -> None:
        """Rows for idle times."""
        with self._changed:
            self._spare += pieces
            self._changed.notify()

    def forget(self, request: int) -> None:
        """Nobody waits for the answers to this request any more."""
        with self._changed:
            self._arrived = [arrival for arrival in self._arrived if arrival.request != request]
            self._waiting = [piece for piece in self._waiting if piece.parcel.request != request]
            self._ends.pop(request, None)

    def take(self) -> Work:
        """The next work; blocks while there is none. A turn has one model and one seed."""
        with self._changed:
            while not (self._arrived or self._waiting or self._spare):
                self._changed.wait()
            if late := self._late():
                return Work(late=late)
            if self._arrived and sum(p.tokens for p in self._waiting) < ENCODED_TURNS * self.budget:
                first = min(self._arrived, key=lambda arrival: arrival.tag)
                self._arrived.remove(first)
                return Work(encode=first)
            if self._waiting:
                return Work(compute=self._turn())
            return Work(compute=[self._spare.pop(0)])

    def _late(self) -> list[int]:
        """The numbers of the parcels whose time is over, which are taken out."""
        now = time.monotonic()
        late = {a.message["id"] for a in self._arrived if a.deadline < now}
        late |= {p.parcel.id for p in self._waiting if p.parcel.deadline < now}
        if late:
            self._arrived = [a for a in self._arrived if a.message["id"] not in late]
            self._waiting = [p for p in self._waiting if p.parcel.id not in late]
        return sorted(late)

    def _turn(self) -> list[Piece]:
        waiting = sum(piece.tokens for piece in self._waiting)
        chosen = turn_of(self._waiting, min(self.budget, max(_LEAST_TURN, waiting // _PARTS)))
        self._now = max(self._now, chosen[0].tag)
        taken = set(map(id, chosen))
        self._waiting = [p for p in self._waiting if id(p) not in taken]
        self._ends = {request: end for request, end in self._ends.items() if end > self._now}
        return chosen


def turn_of(waiting: Sequence[Piece], budget: int) -> list[Piece]:
    """The row of the least tag, and those of the same model that are nearest to it in length, within the budget of
    padded tokens.
    """
    first = min(waiting, key=lambda piece: piece.tag)
    parcel = first.parcel
    if parcel.served.draws:  # numbered within its request, and computed with its seed
        return [p for p in waiting if p.parcel is parcel]
    together = [p for p in waiting if p is not first and p.parcel.served is parcel.served]
    together.sort(key=lambda piece: (abs(piece.tokens - first.tokens), piece.tag))
    chosen, longest = [first], first.tokens
    for piece in together:
        longest_now = max(longest, piece.tokens)
        if longest_now * (len(chosen) + 1) > budget:
            break
        chosen.append(piece)
        longest = longest_now
    return chosen
