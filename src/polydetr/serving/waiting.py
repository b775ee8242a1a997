"""In the front process: the requests that wait, bounded in rows and bytes, and which of their rows are sent next.

Requests take turns, a parcel each (``parcels``), so that one of 10,000 rows lets single rows pass; within a model
process ``turns`` does the same by tokens. A request is refused at once where it could not be answered in its time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from polydetr.errors import PolydetrError
from polydetr.serving.contract import Busy, Reply

if TYPE_CHECKING:
    from polydetr.serving.versions import Version

PARCEL_ROWS = 32
PARCEL_BYTES = 1 << 20
_SURE = 0.75
"""Of a request's time: as much of it may be taken already. What rows take is a mean, and other programs compute too;
who is refused at once can ask elsewhere, who is told after the whole time that it was too short has lost it.
"""


@dataclass(eq=False)
class Request:
    """rows: each packed (``frames.RowCodec``), None where it is answered already; deadline: of the loop's clock; left:
    rows without a reply; is_answered: whether a process answered some of them."""

    id: int
    version: Version
    ask: dict[str, Any]
    rows: list[list[bytes] | None]
    replies: list[Reply | None]
    deadline: float
    accepted: float
    done: asyncio.Future[None]
    parcels: deque[Sending] = field(default_factory=deque)
    size: int = 0
    seconds: float = 0.0
    left: int = 0
    is_answered: bool = False
    without_column: list[Sending] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.rows)

    @property
    def all_lack_a_column(self) -> bool:
        """Whether no row is left that may have the column that the others lack."""
        return self.left == sum(len(sending.places) for sending in self.without_column)

    def fill(self, sending: Sending, replies: Sequence[Reply]) -> None:
        for place, reply in zip(sending.places, replies, strict=True):
            self.replies[place], self.rows[place] = reply, None
        self.left -= len(sending.places)
        self.is_answered = True

    def to_be_sent_again(self) -> list[Sending]:
        """What lacked a column, once it is known that other rows of the request have it."""
        if not (self.is_answered and self.all_lack_a_column):
            return []
        again, self.without_column = self.without_column, []
        for sending in again:
            sending.checked = True
        return again

    def fail(self, error: PolydetrError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


@dataclass(eq=False)
class Sending:
    """Some rows of a request: ``places`` among its rows, which stand next to one another. checked: see
    ``Parcel.read``; tried: how often it was sent to a process that ended.
    """

    request: Request
    places: Sequence[int]
    checked: bool = False
    tried: int = 0
    id: int = 0
    sent: float = 0.0


def parcels_of(request: Request, *, whole: bool) -> deque[Sending]:
    """The request's rows in parcels. whole: in one."""
    parcels, places, size = deque[Sending](), list[int](), 0
    for place, row in enumerate(request.rows):
        bytes_of_row = 0 if row is None else sum(map(len, row))
        full = len(places) >= PARCEL_ROWS or (places and size + bytes_of_row > PARCEL_BYTES)
        if places and (row is None or (full and not whole)):
            parcels.append(Sending(request, places))
            places, size = [], 0
        if row is not None:
            places.append(place)
            size += bytes_of_row
    if places:
        parcels.append(Sending(request, places))
    return parcels


class Waiting:
    """Requests that have parcels to send, in a ring, and what is accepted and not answered yet."""

    def __init__(self, *, rows: int, size: int) -> None:
        """rows, size: how many rows and bytes may wait at most."""
        self.most_rows, self.most_bytes = rows, size
        self.rows = self.bytes = self.requests = 0
        self.seconds = 0.0
        self._ring: deque[Request] = deque()

    def admit(self, rows: int, size: int, *, row_s: float, timeout_s: float, lanes: int) -> None:
        """row_s: what a row takes, as measured; lanes: model processes.

        Raises:
            Busy: too much waits already, or more than can be answered before the request's own time is over. Requests
            take turns, so that of every other one no more rows come before it than it has itself.
        """
        ahead_s = min(self.seconds, self.requests * rows * row_s) / max(1, lanes)
        full = self.requests and (self.rows + rows > self.most_rows or self.bytes + size > self.most_bytes)
        if full or ahead_s > _SURE * max(0.0, timeout_s):
            over = max(ahead_s - timeout_s / 2, self.seconds / max(1, lanes) / 2)
            raise Busy(
                f"{self.rows:,} rows are waiting, more than can be answered in time.",
                retry_after=min(60.0, max(1.0, over)),
            )

    def add(self, request: Request) -> None:
        self.rows += request.count
        self.bytes += request.size
        self.requests += 1
        request.seconds = request.count * request.version.row_s
        self.seconds += request.seconds
        self._ring.append(request)

    def leave(self, request: Request) -> None:
        """It is answered, or nobody waits for it."""
        self.rows -= request.count
        self.bytes -= request.size
        self.requests -= 1
        self.seconds = max(0.0, self.seconds - request.seconds) if self.requests else 0.0
        request.parcels.clear()

    def put_back(self, sending: Sending) -> None:
        """To be sent again, before all others of its request."""
        if not sending.request.parcels:
            self._ring.append(sending.request)
        sending.request.parcels.appendleft(sending)

    def next(self, handles: Set[int]) -> Sending | None:
        """The next parcel of the request whose turn it is, among those of the versions with these handles."""
        for _ in range(len(self._ring)):
            request = self._ring.popleft()
            if not request.parcels or request.done.done():
                continue
            sending = request.parcels.popleft() if request.version.handle in handles else None
            if request.parcels or sending is None:
                self._ring.append(request)
            if sending is not None:
                return sending
        return None

    def of(self, version: Version) -> list[Request]:
        """Those that wait for this version."""
        return [request for request in self._ring if request.version is version]
