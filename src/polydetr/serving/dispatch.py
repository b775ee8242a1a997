"""In the front process: which model process computes what, and what becomes of it where one ends.

A process is sent a little more than it computes in a few turns, so that it always has rows to choose from, and little is
lost with it. The rows that were in a process that ended are sent once more, each parcel alone in its process: where one
of them ended it, the others do not suffer a second time.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from polydetr.core.ahead import cores
from polydetr.errors import PolydetrError
from polydetr.serving.contract import TooLate, Unavailable
from polydetr.serving.frames import RowCodec
from polydetr.serving.process import ModelProcess, error_of
from polydetr.serving.versions import Version
from polydetr.serving.waiting import Request, Sending, Waiting, parcels_of

TURNS_AHEAD = 8
MOST_BYTES_AHEAD = 64 << 20
_SLOWEST_RESTART_S = 30.0
Notify = Callable[[str, Mapping[str, Any]], None]
"""Takes an event of the service by its name, with numbers and names that tell of it and no text of a caller."""


class Lane:
    """One model process and what was sent to it. alone: nothing more is sent until it is done with that."""

    def __init__(self, number: int) -> None:
        self.number, self.process, self.is_ready = number, ModelProcess(number), False
        self.out: dict[int, Sending] = {}
        self.tokens = self.bytes = 0.0
        self.alone = False
        self.failures = 0

    def has_room(self, tokens: float) -> bool:
        within = self.tokens < tokens and self.bytes < MOST_BYTES_AHEAD
        return self.is_ready and not self.alone and (within or not self.out)

    def take(self, sending: Sending, *, sign: int) -> None:
        request = sending.request
        self.tokens += sign * len(sending.places) * request.version.tokens
        self.bytes += sign * request.size * len(sending.places) / request.count


class Dispatcher:
    """measured: what counts (``measured.Measured``); versions: gives those that every process has to hold."""

    def __init__(
        self,
        *,
        workers: int,
        runtime: str | None,
        budget: int,
        waiting: Waiting,
        versions: Callable[[], list[Version]],
        measured: Any,
        notify: Notify,
    ) -> None:
        self.codec, self.waiting, self.measured, self._notify = RowCodec(), waiting, measured, notify
        self._runtime, self._budget, self._versions = runtime, budget, versions
        self.lanes = [Lane(number) for number in range(workers)]
        self._ids = itertools.count(1)
        self._suspects: deque[Sending] = deque()
        self._restarts: set[asyncio.Task[None]] = set()
        self._ending = False
        threads = max(1, cores() // workers)
        self._environment = (
            {"OMP_NUM_THREADS": str(threads)} if workers > 1 and "OMP_NUM_THREADS" not in os.environ else {}
        )

    # -- processes ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """All processes, with all models. Raises ModelFolderError, ConfigError: one of them cannot be loaded."""
        try:
            await asyncio.gather(*(self._begin(lane) for lane in self.lanes))
        except BaseException:
            await self.end()
            raise

    async def end(self) -> None:
        self._ending = True
        for task in self._restarts:
            task.cancel()
        await asyncio.gather(*(lane.process.end() for lane in self.lanes), *self._restarts, return_exceptions=True)

    @property
    def ready(self) -> int:
        """Processes that answer."""
        return sum(lane.is_ready for lane in self.lanes)

    @property
    def pids(self) -> list[int]:
        return [lane.process.pid for lane in self.lanes if lane.process.is_up]

    async def _begin(self, lane: Lane, *, again: bool = False) -> None:
        lane.process, lane.out, lane.tokens, lane.bytes, lane.alone = ModelProcess(lane.number), {}, 0.0, 0.0, False
        hello = {"budget": self._budget, "mark": self.codec.mark}
        await lane.process.start(
            hello,
            environment=self._environment,
            heard=lambda _, m: self._heard(lane, m),
            gone=lambda _: self._gone(lane),
        )
        for version in self._versions():
            try:
                await self.load(lane, version)
            except PolydetrError as error:
                if not again or isinstance(error, Unavailable):
                    raise
                version.fault = f"{version.name!r} cannot be loaded again: {error.message}"
                self._notify("model_failed", {"model": version.name, "error": type(error).__name__})
        lane.is_ready = True
        self.pump()

    async def load(self, lane: Lane, version: Version) -> None:
        """Brings a model into a process. Raises ModelFolderError, ConfigError, Unavailable."""
        told, parts = await lane.process.load(version.handle, version.folder, self._runtime)
        version.describe(told, self.codec.unpack(parts[0], parts[1:]))

    def _gone(self, lane: Lane) -> None:
        if self._ending:
            return
        lane.is_ready = False
        lost, lane.out = list(lane.out.values()), {}
        self._notify("process_ended", {"process": lane.number, "parcels": len(lost)})
        self.measured.process_ended()
        for sending in lost:
            sending.tried += 1
            if sending.tried > 1:
                self._fail(
                    sending.request, Unavailable("the model process ended while it answered, twice.", hint=_LATER)
                )
            else:
                self._suspects.append(sending)
        task = asyncio.create_task(self._revive(lane))
        self._restarts.add(task)
        task.add_done_callback(self._restarts.discard)

    async def _revive(self, lane: Lane) -> None:
        await lane.process.end(wait_s=0.2)
        lane.failures += 1
        if lane.failures > 1:
            await asyncio.sleep(min(_SLOWEST_RESTART_S, 0.25 * 2**lane.failures))
        with contextlib.suppress(Unavailable):  # it ended again: ``_gone`` was told, and tries once more
            await self._begin(lane, again=True)
            self._notify("process_ready", {"process": lane.number})

    # -- rows ---------------------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> None:
        request.parcels = parcels_of(request, whole=request.version.draws)
        self.waiting.add(request)
        if not request.parcels:  # every row has its error already
            request.done.set_result(None)
            return
        self.pump()

    def forget(self, request: Request) -> None:
        """The request is over, answered or not."""
        self.waiting.leave(request)
        for lane in self.lanes:
            mine = [id for id, sending in lane.out.items() if sending.request is request]
            for id in mine:
                self._take_back(lane, id)
            if mine:
                lane.process.send({"do": "forget", "request": request.id})
        self.pump()

    def pump(self) -> None:
        """Sends what the processes have room for, to the one with the least before it."""
        while True:
            room = [lane for lane in self.lanes if lane.has_room(TURNS_AHEAD * self._budget)]
            while self._suspects and self._suspects[0].request.done.done():
                self._suspects.popleft()
            if self._suspects:
                room = [lane for lane in room if not lane.out]
            if not room:
                return
            sending = self._suspects.popleft() if self._suspects else self.waiting.next()
            if sending is None:
                return
            lane = min(room, key=lambda lane: lane.tokens)
            lane.alone = sending.tried > 0
            self._send(lane, sending)

    def _send(self, lane: Lane, sending: Sending) -> None:
        request, loop = sending.request, asyncio.get_running_loop()
        sending.id, sending.sent = next(self._ids), loop.time()
        lane.out[sending.id] = sending
        lane.take(sending, sign=1)
        rows = [row for place in sending.places if (row := request.rows[place]) is not None]
        message = {
            "do": "answer",
            "id": sending.id,
            "request": request.id,
            "handle": request.version.handle,
            "ask": request.ask,
            "first": sending.places[0] + 1,
            "left": request.deadline - sending.sent,
            "checked": sending.checked,
            "images": [len(row) - 1 for row in rows],
        }
        lane.process.send(message, [part for row in rows for part in row])

    def _take_back(self, lane: Lane, id: int) -> Sending | None:
        sending = lane.out.pop(id, None)
        if sending is not None:
            lane.take(sending, sign=-1)
            lane.alone = lane.alone and bool(lane.out)
            if not lane.out:
                lane.tokens = lane.bytes = 0.0
        return sending

    def _heard(self, lane: Lane, message: dict[str, Any]) -> None:
        if turn := message.get("turn"):
            self.measured.turn(**turn)
            return
        sending = self._take_back(lane, message["id"])
        if sending is not None and not sending.request.done.done():
            lane.failures = 0
            if "replies" in message:
                self._answered(sending, message)
            elif message.get("late"):
                self._fail(sending.request, TooLate(_TOO_LATE))
            else:
                self._refused(sending, message["failed"])
        self.pump()

    def _answered(self, sending: Sending, message: Mapping[str, Any]) -> None:
        request, rows = sending.request, len(sending.places)
        for place, reply in zip(sending.places, message["replies"], strict=True):
            request.replies[place] = reply
            request.rows[place] = None
        request.version.learn(rows=rows, seconds=sum(message["seconds"].values()), tokens=message["tokens"])
        seconds = asyncio.get_running_loop().time() - sending.sent
        self.measured.parcel(request, sending, message, seconds=seconds)
        request.left -= rows
        request.is_answered = True
        self._complete(request)

    def _complete(self, request: Request) -> None:
        if request.left == 0:
            request.done.set_result(None)
        elif request.without_column and request.left == sum(len(s.places) for s in request.without_column):
            for sending in request.without_column:  # other rows of the request have the column
                sending.checked = True
                self.waiting.put_back(sending)
            request.without_column.clear()

    def _refused(self, sending: Sending, failed: Mapping[str, Any]) -> None:
        request = sending.request
        if failed["kind"] == "SchemaError" and not sending.checked:
            request.without_column.append(sending)
            refused = sum(len(s.places) for s in request.without_column)
            if refused < request.left:
                return  # the others are still to come
            if request.is_answered:
                self._complete(request)
                return
        self._fail(request, error_of(failed))

    def _fail(self, request: Request, error: PolydetrError) -> None:
        if not request.done.done():
            request.done.set_exception(error)


_LATER = "Ask again in a few seconds."
_TOO_LATE = "the time that the request allows was over before it was answered."
