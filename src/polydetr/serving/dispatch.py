"""In the front process: which model process computes what, and what becomes of it where one ends.

A process is sent a little more than it computes in a few turns, so that it always has rows to choose from, and little
is lost with it. The rows that were in a process that ended are sent once more, each parcel alone in its process: where
one of them ended it, the others do not suffer a second time.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from polydetr.core.ahead import cores
from polydetr.errors import ConfigError, InputError, ModelFolderError, PolydetrError
from polydetr.serving.contract import TooLate, Unavailable
from polydetr.serving.frames import RowCodec
from polydetr.serving.lanes import Lane, environment
from polydetr.serving.process import error_of
from polydetr.serving.versions import Version
from polydetr.serving.waiting import Request, Sending, Waiting, parcels_of

TURNS_AHEAD = 8
_MOST_ENDS = 2
"""A version that no request waits for is not loaded again once so many processes ended while it was."""
_SLOWEST_RESTART_S = 30.0
_AGAIN_S = 10.0
"""After which a model is loaded again whose folder could not be read, as while a network drive is away."""
Notify = Callable[[str, Mapping[str, Any]], None]
"""Takes an event of the service by its name, with numbers and names that tell of it and no text of a caller."""


class Dispatcher:
    """measured: what counts (``measured.Measured``); versions: gives those that every process has to hold, first those
    without which it cannot answer.
    """

    def __init__(
        self,
        *,
        workers: int,
        runtime: str | None,
        budget: int,
        waiting: Waiting,
        versions: Callable[[], tuple[list[Version], list[Version]]],
        measured: Any,
        notify: Notify,
    ) -> None:
        self.codec, self.waiting, self.measured, self._notify = RowCodec(), waiting, measured, notify
        self._runtime, self._budget, self._versions = runtime, budget, versions
        self.lanes = [Lane(number) for number in range(workers)]
        self._ids = itertools.count(1)
        self._suspects: deque[Sending] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._shadows: dict[int, int] = {}
        self._ending = False
        self._environment = environment(workers)
        self._ahead = TURNS_AHEAD * budget * max(1, cores() // workers)

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
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(lane.process.end() for lane in self.lanes), *self._tasks, return_exceptions=True)

    @property
    def ready(self) -> int:
        """Processes that answer."""
        return sum(lane.is_ready for lane in self.lanes)

    @property
    def pids(self) -> list[int]:
        return [lane.process.pid for lane in self.lanes if lane.process.is_up]

    async def _begin(self, lane: Lane, *, again: bool = False) -> None:
        """A process that answers; what no request waits for is loaded later."""
        await lane.begin(
            {"budget": self._budget, "mark": self.codec.mark},
            environment=self._environment,
            heard=lambda _, message: self._heard(lane, message),
            gone=lambda _: self._gone(lane),
        )
        needed, others = self._versions()
        await self._load_all(lane, needed if again else [*needed, *others], again=again)
        lane.is_ready = True
        self.pump()
        if again and others:
            self._do(self._load_later(lane, others))

    async def _load_all(self, lane: Lane, versions: Sequence[Version], *, again: bool) -> None:
        for version in versions:
            try:
                await lane.load(version, self._runtime, self.codec)
            except (ModelFolderError, ConfigError) as error:
                if not again:
                    raise
                self._failed(version, error)
                self._do(self._load_again(lane, version))
        self._tell_shadows(lane)

    async def _load_again(self, lane: Lane, version: Version) -> None:
        """Until it is there, or the process is not, or the model is replaced."""
        process = lane.process
        while True:
            await asyncio.sleep(_AGAIN_S)
            if lane.process is not process or not process.is_up or self._known(version.handle) is None:
                return
            with contextlib.suppress(ModelFolderError, ConfigError, Unavailable):
                await lane.load(version, self._runtime, self.codec)
                version.fault = None
                self._tell_shadows(lane)
                self.pump()
                return

    async def _load_later(self, lane: Lane, versions: Sequence[Version]) -> None:
        """Those that no request waits for. What is left when the process ends is loaded into the next one."""
        for version in versions:
            if version.ends >= _MOST_ENDS:
                continue
            try:
                await self._load_all(lane, [version], again=True)
            except Unavailable as error:
                if version.ends >= _MOST_ENDS:
                    self._failed(version, error)
                return

    def _failed(self, version: Version, error: PolydetrError) -> None:
        """It cannot be loaded again; others may hold it still. The reason names places on this machine."""
        about = {"model": version.name, "error": type(error).__name__, "reason": error.message}
        self._notify("model_failed", about)
        if not any(lane.holds(version) for lane in self.lanes):
            version.fault = f"{version.name!r} cannot be loaded again; the service's log says why."
            for request in [*self.waiting.of(version), *(sending.request for sending in self._suspects)]:
                self._check(request)

    def _check(self, request: Request) -> None:
        """Whoever waits for a version that no process can load is told so."""
        if request.version.fault is not None:
            request.fail(Unavailable(request.version.fault))

    async def bring(self, version: Version) -> None:
        """Brings a model into every process, also into those that begin meanwhile.

        Raises:
            ModelFolderError, ConfigError: it cannot be loaded, or ends the processes. Unavailable: the service ends.
        """
        while lacking := [lane for lane in self.lanes if version.handle not in lane.process.loaded]:
            if self._ending:
                raise Unavailable("the service is ending.")
            if version.ends >= _MOST_ENDS:
                raise ModelFolderError(
                    f"the model process ended while the new version of {version.name!r} was loaded, "
                    f"{version.ends} times.",
                    hint="Is there memory for both? Serve it alone to see: polydetr serve FOLDER.",
                )
            lane = next((lane for lane in lacking if lane.is_ready), None)
            if lane is None:
                await asyncio.sleep(0.02)
                continue
            with contextlib.suppress(Unavailable):
                await lane.load(version, self._runtime, self.codec)

    def drop(self, version: Version) -> None:
        """Frees its memory in every process."""
        for lane in self.lanes:
            lane.process.drop(version.handle)

    def shadows(self, pairs: Mapping[int, int]) -> None:
        """pairs: the handle of a version that answers → that of its shadow."""
        self._shadows = dict(pairs)
        for lane in self.lanes:
            self._tell_shadows(lane)

    def _tell_shadows(self, lane: Lane) -> None:
        loaded = lane.process.loaded
        lane.process.send({"do": "shadows", "pairs": [pair for pair in self._shadows.items() if pair[1] in loaded]})

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        """Beside everything else, and no longer than the service."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

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
                sending.request.fail(Unavailable("the model process ended while it answered, twice.", hint=_LATER))
            else:
                self._suspects.append(sending)
        self._do(self._revive(lane))

    async def _revive(self, lane: Lane) -> None:
        await lane.process.end(wait_s=0.2)
        while True:
            lane.failures += 1
            if lane.failures > 1:
                await asyncio.sleep(min(_SLOWEST_RESTART_S, 0.25 * 2**lane.failures))
            try:
                await self._begin(lane, again=True)
                self._notify("process_ready", {"process": lane.number})
                return
            except Unavailable:  # it ended again: ``_gone`` was told, and begins anew
                return
            except OSError:  # no memory or no files for another process, at this moment
                continue
            except Exception as error:
                self._notify("process_failed", {"process": lane.number, "error": type(error).__name__})
                if lane.process.is_up:
                    lane.process.kill()
                    return

    # -- rows ---------------------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> None:
        request.parcels = parcels_of(request, whole=request.version.draws)
        self.waiting.add(request)
        self._check(request)
        if request.done.done():
            return
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
                lane.take_back(id)
            if mine:
                lane.process.send({"do": "forget", "request": request.id})
        self.pump()

    def pump(self) -> None:
        """Sends what the processes have room for, to the one with the least before it."""
        while True:
            room = [lane for lane in self.lanes if lane.has_room(self._ahead)]
            if suspect := self._suspect():
                room = [lane for lane in room if not lane.out and lane.holds(suspect.request.version)]
            if not room:
                return
            if suspect:
                self._suspects.remove(suspect)
            handles = {handle for lane in room for handle in lane.process.loaded}
            sending = suspect or self.waiting.next(handles)
            if sending is None:
                return
            lane = min((one for one in room if one.holds(sending.request.version)), key=lambda lane: lane.tokens)
            lane.alone = sending.tried > 0
            self._send(lane, sending)

    def _suspect(self) -> Sending | None:
        """The next that was in a process that ended, where a process holds its model."""
        while self._suspects and self._suspects[0].request.done.done():
            self._suspects.popleft()
        able = (one for one in self._suspects if any(lane.holds(one.request.version) for lane in self.lanes))
        return next(able, None)

    def _send(self, lane: Lane, sending: Sending) -> None:
        request, loop = sending.request, asyncio.get_running_loop()
        sending.id, sending.sent = next(self._ids), loop.time()
        lane.put(sending)
        rows = [row for place in sending.places if (row := request.rows[place]) is not None]
        message = {
            "do": "answer",
            "id": sending.id,
            "request": request.id,
            "handle": request.version.handle,
            "ask": request.ask,
            "first": sending.places[0] + 1,
            "deadline": time.monotonic() + request.deadline - sending.sent,  # one clock for all processes of a machine
            "checked": sending.checked,
            "images": [len(row) - 1 for row in rows],
        }
        lane.process.send(message, [part for row in rows for part in row])

    def _heard(self, lane: Lane, message: dict[str, Any]) -> None:
        if turn := message.get("turn"):
            self.measured.turn(**turn)
            return
        if columns := message.get("columns"):
            if (version := self._known(columns["handle"])) is not None:
                version.windows.add(columns["counts"])
            return
        if warned := message.get("warned"):
            self._notify("model_warned", {"process": lane.number, "warning": warned})
            return
        if compared := message.get("compared"):
            self._compared(compared)
            return
        sending = lane.take_back(message["id"])
        if sending is not None and not sending.request.done.done():
            lane.failures = 0
            if "replies" in message:
                self._answered(sending, message)
            elif message.get("late"):
                sending.request.fail(TooLate())
            else:
                self._refused(sending, message["failed"])
        self.pump()

    def _known(self, handle: int) -> Version | None:
        needed, others = self._versions()
        return next((version for version in [*needed, *others] if version.handle == handle), None)

    def _compared(self, compared: Mapping[str, Any]) -> None:
        if (version := self._known(compared["handle"])) is not None:
            self.measured.compared(version.name, compared["targets"], skipped=compared["skipped"])
            if any(count["different"] for count in compared["targets"].values()):
                self._notify("shadow_differs", {"model": version.name, "version": version.seal, **compared["targets"]})

    def _answered(self, sending: Sending, message: Mapping[str, Any]) -> None:
        request, rows = sending.request, len(sending.places)
        request.fill(sending, message["replies"])
        request.version.learn(rows=rows, seconds=sum(message["seconds"].values()), tokens=message["tokens"])
        seconds = asyncio.get_running_loop().time() - sending.sent
        self.measured.parcel(request, sending, message, seconds=seconds)
        self._go_on(request)

    def _go_on(self, request: Request) -> None:
        """A request of which all parcels that were sent have come back is done, or what lacked a column goes again."""
        if request.left == 0:
            request.done.set_result(None)
            return
        for sending in request.to_be_sent_again():
            self.waiting.put_back(sending)

    def _refused(self, sending: Sending, failed: Mapping[str, Any]) -> None:
        """A column is missing in a whole parcel: the request's affair, of which other parcels may have it."""
        request = sending.request
        if failed["kind"] == "SchemaError" and not sending.checked:
            request.without_column.append(sending)
            if request.is_answered or not request.all_lack_a_column:
                self._go_on(request)
                return
        error = error_of(failed)
        wrong = isinstance(error, ConfigError)  # of a caller, options are input
        request.fail(InputError(error.message, hint=error.hint) if wrong else error)


_LATER = "Ask again in a few seconds."
