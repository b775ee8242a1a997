"""In a model process: which rows are computed next, and which travel together.

Nothing waits for company: whoever asks for a turn gets what is there at once, so that a lone row goes alone, and rows
gather only while the model is busy. A turn is a budget of tokens, not of requests. It begins with the row whose turn it
is, and is filled with the rows nearest to it in length, so that little is padding.

Whose turn it is follows start-time fair queueing (Goyal, Vin and Cheng 1996): a row has the tag max(V, end of its
request's last row), where V is the tag of the last row that was served, and ends its cost in tokens later. A request of
10,000 rows has tags far ahead; a single row that comes now has the tag V and is next.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from polydetr.serving.parcels import Piece


class Pool:
    """Rows that wait. Filled by one thread, emptied by another; rows of ``spare`` only where no others wait."""

    def __init__(self, *, budget: int) -> None:
        """budget: tokens per turn."""
        self.budget = budget
        self._changed = threading.Condition()
        self._waiting: list[Piece] = []
        self._spare: list[Piece] = []
        self._ends: dict[int, float] = {}
        self._now = 0.0
        self._closed = False

    def add(self, pieces: Iterable[Piece]) -> None:
        with self._changed:
            for piece in pieces:
                request = piece.parcel.request
                piece.tag = max(self._now, self._ends.get(request, 0.0))
                self._ends[request] = piece.tag + piece.tokens
                self._waiting.append(piece)
            self._changed.notify()

    def add_spare(self, pieces: Sequence[Piece], *, most: int) -> bool:
        """Rows for idle times. False where more than ``most`` wait already: these are not taken."""
        with self._changed:
            if len(self._spare) + len(pieces) > most:
                return False
            self._spare += pieces
            self._changed.notify()
        return True

    def forget(self, request: int) -> None:
        """Nobody waits for the answers to this request any more."""
        with self._changed:
            for piece in self._waiting:
                if piece.parcel.request == request:
                    piece.parcel.gone = True

    def take(self) -> list[Piece]:
        """The rows of the next turn, of one model and one seed; blocks while there are none; [] once it is closed.

        Rows that nobody waits for, or that are too late, are given back as a turn of their own, not to be computed.
        """
        with self._changed:
            while not (self._waiting or self._spare or self._closed):
                self._changed.wait()
            if dead := [p for p in self._waiting if p.parcel.gone or p.parcel.is_late]:
                self._leave(dead)
                for piece in dead:
                    piece.parcel.gone = True
                return dead
            if self._waiting:
                chosen = _turn(self._waiting, self.budget)
                self._now = max(self._now, min(piece.tag for piece in chosen))
                self._leave(chosen)
                return chosen
            chosen, self._spare = self._spare[:1], self._spare[1:]
            return chosen

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _leave(self, pieces: Sequence[Piece]) -> None:
        taken = set(map(id, pieces))
        self._waiting = [p for p in self._waiting if id(p) not in taken]
        present = {p.parcel.request for p in self._waiting}
        self._ends = {request: end for request, end in self._ends.items() if request in present or end > self._now}

    @property
    def depth(self) -> int:
        return len(self._waiting)


def _turn(waiting: Sequence[Piece], budget: int) -> list[Piece]:
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
