"""The models of a service in processes of their own: see ``contract.Fleet``.

The process that speaks HTTP holds no model: it packs rows, lets requests take turns (``waiting``), and sends them to
model processes (``dispatch``), which put rows of many requests together by length (``worker``, ``turns``).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from polydetr.errors import InputError, ModelFolderError, PolydetrError, RowError, did_you_mean
from polydetr.serving.contract import Ask, Busy, ModelInfo, Reply, Row, TooLate, Unavailable, UnknownModel
from polydetr.serving.dispatch import Dispatcher, Notify
from polydetr.serving.drift import Drift
from polydetr.serving.measured import Measured
from polydetr.serving.versions import Line, Version, below, columns_differ, without_place
from polydetr.serving.waiting import Request, Waiting

QUEUE_ROWS = 20_000
QUEUE_BYTES = 256 << 20
BATCH_TOKENS = 1024
_BREATH = 256
"""Rows that are packed before others have their turn."""


def _silent(event: str, about: Mapping[str, Any]) -> None:
    pass


class ModelFleet:
    """The models of a service; ``start`` makes one."""

    def __init__(
        self,
        *,
        workers: int,
        runtime: str | None,
        root: Path | None,
        queue_rows: int,
        queue_bytes: int,
        batch_tokens: int,
        notify: Notify,
    ) -> None:
        self._lines: dict[str, Line] = {}
        self._leaving: list[Version] = []
        self._swapping = asyncio.Lock()
        self._root, self._notify = root, notify
        self._handles, self._requests = itertools.count(1), itertools.count(1)
        self._measured = Measured()
        self._waiting = Waiting(rows=queue_rows, size=queue_bytes)
        self._dispatcher = Dispatcher(
            workers=workers,
            runtime=runtime,
            budget=batch_tokens,
            waiting=self._waiting,
            versions=self._versions,
            measured=self._measured,
            notify=notify,
        )
        self._is_ending = False

    @classmethod
    async def start(
        cls,
        models: Mapping[str, str | Path],
        *,
        workers: int = 1,
        runtime: str | None = None,
        root: str | Path | None = None,
        queue_rows: int = QUEUE_ROWS,
        queue_bytes: int = QUEUE_BYTES,
        batch_tokens: int = BATCH_TOKENS,
        notify: Notify = _silent,
    ) -> Self:
        """Spawns the processes and loads the models, each into every process.

        models: name → folder. workers: model processes. runtime: what computes, a name of ``core.plugs.RUNNERS``; None:
        what each folder says. root: the folder below which ``replace`` finds new models. queue_rows, queue_bytes: what
        is accepted and not answered, at most. batch_tokens: of a turn, padded; the model process computes so many
        before other requests have their turn. notify: see ``dispatch.Notify``.

        Raises:
            ModelFolderError, ConfigError: a model cannot be loaded.
        """
        fleet = cls(
            workers=workers,
            runtime=runtime,
            root=None if root is None else Path(root),
            queue_rows=queue_rows,
            queue_bytes=queue_bytes,
            batch_tokens=batch_tokens,
            notify=notify,
        )
        for name, folder in models.items():
            fleet._lines[name] = Line(name, fleet._version(name, Path(folder)))
        await fleet._dispatcher.start()
        return fleet

    # -- answers ------------------------------------------------------------------------------------------------------

    def models(self) -> Mapping[str, ModelInfo]:
        """See ``contract.Fleet``."""
        return {name: line.info(state=self._state(line)) for name, line in self._lines.items()}

    async def answer(self, model: str, rows: Sequence[Row], ask: Ask, *, timeout_s: float) -> list[Reply]:
        """See ``contract.Fleet``; a column that the model reads and that none of the rows has is an InputError, too."""
        line, loop = self._line(model), asyncio.get_running_loop()
        began, status = loop.time(), "left"
        try:
            replies = await self._answer(line, rows, ask, deadline=began + timeout_s)
            status = "answered"
            return replies
        except Busy:
            status = "busy"
            raise
        except TooLate:
            status = "late"
            raise
        except Unavailable:
            status = "unavailable"
            raise
        except InputError:
            status = "wrong"
            raise
        finally:
            self._measured.request(model, status, loop.time() - began)

    def unread(self, model: str, rows: int) -> None:
        """See ``contract.Fleet``."""
        self._measured.unread(self._line(model).name, rows)

    async def _answer(self, line: Line, rows: Sequence[Row], ask: Ask, *, deadline: float) -> list[Reply]:
        version = line.current
        if self._is_ending:
            raise Unavailable("the service is ending.")
        if version.fault is not None:
            raise Unavailable(version.fault)
        if not rows:
            return []
        version.users += 1  # from now on: a model that is taken back meanwhile is not freed before this is answered
        try:
            return await self._answer_by(version, rows, ask, deadline=deadline)
        finally:
            version.users -= 1
            self._free()

    async def _answer_by(self, version: Version, rows: Sequence[Row], ask: Ask, *, deadline: float) -> list[Reply]:
        loop = asyncio.get_running_loop()
        accepted = loop.time()
        lanes = max(1, self._dispatcher.ready)
        self._waiting.admit(len(rows), 0, row_s=version.row_s, timeout_s=deadline - accepted, lanes=lanes)
        packed, replies = await self._packed(rows)
        self._measured.unread(version.name, packed.count(None))
        size = sum(len(part) for row in packed if row is not None for part in row)
        self._waiting.admit(len(rows), size, row_s=version.row_s, timeout_s=deadline - loop.time(), lanes=lanes)
        left = sum(reply is None for reply in replies)
        request = Request(
            next(self._requests), version, asdict(ask), packed, replies, deadline, accepted, loop.create_future(),
            size=size, left=left,
        )  # fmt: skip
        try:
            self._dispatcher.submit(request)
            async with asyncio.timeout_at(deadline):
                await request.done
            return [reply for reply in request.replies if reply is not None]
        except TimeoutError:
            raise TooLate from None
        finally:
            self._dispatcher.forget(request)

    async def _packed(self, rows: Sequence[Row]) -> tuple[list[list[bytes] | None], list[Reply | None]]:
        """The rows as they are sent, and the replies to those that cannot be."""
        packed, replies = list[list[bytes] | None](), list[Reply | None]()
        for number, row in enumerate(rows, 1):
            reply = None
            try:
                packed.append(self._dispatcher.codec.pack(row, number))
            except RowError as error:
                packed.append(None)
                where = {"row": number, "column": error.location and error.location.column}
                reply = {"row": number, "error": {"message": error.message, "location": where, "hint": error.hint}}
            replies.append(reply)
            if number % _BREATH == 0:
                await asyncio.sleep(0)
        return packed, replies

    # -- versions -----------------------------------------------------------------------------------------------------

    def _line(self, model: str) -> Line:
        if model not in self._lines:
            raise UnknownModel(f"no model {model!r:.80} is served.", hint=did_you_mean(model, self._lines))
        return self._lines[model]

    def _version(self, name: str, folder: Path) -> Version:
        return Version(next(self._handles), name, str(folder.absolute()))

    def _versions(self) -> tuple[list[Version], list[Version]]:
        """Those that a process has to hold: those by which requests are answered, and all others."""
        answering = [line.current for line in self._lines.values()] + [v for v in self._leaving if v.users]
        others = [v for line in self._lines.values() for v in line.versions if v is not line.current]
        return answering, others

    def _state(self, line: Line) -> str:
        if line.current.fault is not None:
            return line.current.fault
        return "ready" if self._dispatcher.ready else "loading"

    async def replace(self, model: str, folder: str, *, shadow: bool = False) -> ModelInfo:
        """See ``contract.Fleet``. The model that answered until now stays in memory, as the one that ``roll_back``
        brings back; the one before it is freed once its last request is answered.
        """
        line = self._line(model)
        async with self._swapping:
            version = self._version(model, below(self._root, folder))
            version.row_s, version.tokens = line.current.row_s, line.current.tokens
            left = [version]
            try:
                await self._dispatcher.bring(version)
                if differ := columns_differ(line.current, version):
                    raise ModelFolderError(f"the model in {folder!r:.80} does not replace {model!r:.80}: {differ}")
                left = line.take_over(version, shadow=shadow)
            except PolydetrError as error:
                raise without_place(error, self._root) from None
            finally:
                self._leaving += left
                self._free()
            self._settle("shadow" if shadow else "replaced", line)
            return line.info(state=self._state(line))

    async def roll_back(self, model: str) -> ModelInfo:
        """See ``contract.Fleet``. The model that is taken back is freed."""
        line = self._line(model)
        async with self._swapping:
            event = "shadow_ended" if line.shadow else "rolled_back"
            if line.previous is not None and not line.shadow:
                await self._dispatcher.bring(line.previous)
            self._leaving += line.roll_back()
            self._settle(event, line)
            return line.info(state=self._state(line))

    def _settle(self, event: str, line: Line) -> None:
        """After a change: the processes know the shadows, and free what is not needed."""
        shadows = {line.current.handle: line.shadow.handle for line in self._lines.values() if line.shadow}
        self._dispatcher.shadows(shadows)
        self._free()
        self._notify(f"model_{event}", {"model": line.name, "version": line.current.seal})

    def _free(self) -> None:
        """Frees the versions that nobody needs any more."""
        for version in [v for v in self._leaving if not v.users]:
            self._leaving.remove(version)
            self._dispatcher.drop(version)

    # -- figures and the end ------------------------------------------------------------------------------------------

    def measurements(self) -> str:
        """See ``contract.Fleet``."""
        self._measured.waiting_rows.set(self._waiting.rows)
        self._measured.waiting_bytes.set(self._waiting.bytes)
        self._measured.forget_columns()
        for name, line in self._lines.items():
            self._measured.columns(name, line.current.windows.told())
        self._measured.processes.set(self._dispatcher.ready)
        return self._measured.text()

    def drift(self, model: str) -> Sequence[Drift]:
        """See ``contract.Fleet``."""
        return self._line(model).current.windows.drifts()

    async def stop(self, *, grace_s: float) -> None:
        """See ``contract.Fleet``."""
        self._is_ending = True
        end = asyncio.get_running_loop().time() + grace_s
        while self._waiting.requests and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.01)
        await self._dispatcher.end()
