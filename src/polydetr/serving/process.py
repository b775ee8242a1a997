"""In the front process: one model process, from its start to its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from polydetr.errors import ConfigError, InputError, ModelFolderError, PolydetrError, RowError, SchemaError
from polydetr.serving import frames
from polydetr.serving.contract import Unavailable

_ERRORS: dict[str, type[PolydetrError]] = {
    error.__name__: error for error in (ModelFolderError, ConfigError, PolydetrError, InputError, SchemaError, RowError)
}


class ModelProcess:
    """Spawned, never forked, with no file but its socket and standard error. heard: takes its messages, gone: is
    called once it is no more.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.loaded: set[int] = set()
        self.is_up = False
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._asked: dict[int, asyncio.Future[tuple[dict[str, Any], list[bytes]]]] = {}

    async def start(
        self,
        hello: Mapping[str, Any],
        *,
        environment: Mapping[str, str],
        heard: Callable[[ModelProcess, dict[str, Any]], None],
        gone: Callable[[ModelProcess], None],
    ) -> None:
        ours, theirs = socket.socketpair()
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "polydetr.serving.worker",
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C is for the front process
                env={**os.environ, **environment},
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=1 << 20)
        self.is_up = True
        self.send(hello)
        self._reading = asyncio.create_task(self._read(reader, heard, gone))

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def send(self, message: Mapping[str, Any], parts: Sequence[bytes] = ()) -> None:
        if self._writer is not None and self.is_up:
            self._writer.write(frames.pack(message, parts))

    async def load(self, handle: int, folder: str, runtime: str | None) -> tuple[dict[str, Any], list[bytes]]:
        """What the process says of the model, and its example.

        Raises:
            ModelFolderError, ConfigError: it cannot be loaded. Unavailable: the process ended.
        """
        id = -handle  # requests have positive numbers
        self._asked[id] = asyncio.get_running_loop().create_future()
        try:
            self.send({"do": "load", "id": id, "handle": handle, "folder": folder, "runtime": runtime})
            if not self.is_up:
                raise Unavailable("the model process ended.")
            message, parts = await self._asked[id]
        finally:
            self._asked.pop(id, None)
        if failed := message.get("failed"):
            error = error_of(failed)
            known = isinstance(error, ModelFolderError | ConfigError)
            raise error if known else ModelFolderError(error.message, hint=error.hint)
        return message["loaded"], parts

    def drop(self, handle: int) -> None:
        self.loaded.discard(handle)
        self.send({"do": "drop", "handle": handle})

    def kill(self) -> None:
        """It is gone as if it had ended itself."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def end(self, *, wait_s: float = 5.0) -> None:
        """Closes its socket, upon which it ends; kills it where it does not."""
        self.is_up = False
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(Exception):
                await self._writer.wait_closed()
        if self._process is not None:
            try:
                await asyncio.wait_for(self._process.wait(), wait_s)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        if self._reading is not None and self._reading is not asyncio.current_task():
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading

    async def _read(
        self,
        reader: asyncio.StreamReader,
        heard: Callable[[ModelProcess, dict[str, Any]], None],
        gone: Callable[[ModelProcess], None],
    ) -> None:
        try:
            while True:
                message, parts = await frames.read(reader)
                waiting = self._asked.get(message.get("id", 0))
                if waiting is not None and not waiting.done():
                    waiting.set_result((message, parts))
                else:
                    heard(self, message)
        except frames.Closed:
            self.is_up = False
            for waiting in self._asked.values():
                if not waiting.done():
                    waiting.set_exception(Unavailable("the model process ended."))
            gone(self)


def error_of(failed: Mapping[str, Any]) -> PolydetrError:
    """The error that a process tells of."""
    kind = _ERRORS.get(failed["kind"], Unavailable)
    return kind(failed["message"], hint=failed.get("hint"))
