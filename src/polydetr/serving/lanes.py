"""In the front process: a model process, what it holds, and what was sent to it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import Any

from polydetr.core.ahead import cores
from polydetr.errors import ModelFolderError
from polydetr.serving.contract import Unavailable
from polydetr.serving.frames import RowCodec
from polydetr.serving.process import ModelProcess
from polydetr.serving.versions import Version
from polydetr.serving.waiting import Sending

MOST_BYTES = 64 << 20
"""That are sent to a process and not answered."""


CACHES = {"LRU_CACHE_CAPACITY": "64", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "MALLOC_ARENA_MAX": "1"}
"""oneDNN, and PyTorch's layer over it, keep what they compile for each shape, by default for 1,024 of them, and a
service meets every shape. After 300 requests of 1 to 32 texts a process with MiniLM had 538 MB, and no more since the
200th, in place of 772, and rising; both took the same CPU time (25 s). glibc gives each thread heaps of its own, where
what a thread freed waits for this thread alone; here one thread computes, and another loads."""


def environment(workers: int) -> dict[str, str]:
    """What a model process finds in its environment, where the user says nothing else: the cores are shared out."""
    usual = {**CACHES, **({"OMP_NUM_THREADS": str(max(1, cores() // workers))} if workers > 1 else {})}
    return {name: value for name, value in usual.items() if name not in os.environ}


class Lane:
    """One place for a model process, which is filled anew where one ends. alone: nothing more is sent until it is done
    with what it has; failures: how often it ended since it last answered.
    """

    def __init__(self, number: int) -> None:
        self.number, self.failures = number, 0
        self._loading = asyncio.Lock()
        self._empty()

    def _empty(self) -> None:
        self.process, self.is_ready, self.alone = ModelProcess(self.number), False, False
        self.out: dict[int, Sending] = {}
        self.tokens = self.bytes = 0.0

    async def begin(
        self,
        hello: Mapping[str, Any],
        *,
        environment: Mapping[str, str],
        heard: Callable[[ModelProcess, dict[str, Any]], None],
        gone: Callable[[ModelProcess], None],
    ) -> None:
        """A new process. Raises OSError."""
        self._empty()
        await self.process.start(hello, environment=environment, heard=heard, gone=gone)

    async def load(self, version: Version, runtime: str | None, codec: RowCodec) -> None:
        """Brings a model into the process, where it is not there yet.

        Raises:
            ModelFolderError, ConfigError: it cannot be loaded, or is not the one that it was. Unavailable: the process
            ended.
        """
        async with self._loading:
            if version.handle in self.process.loaded:
                return
            was_up = self.process.is_up
            try:
                told, parts = await self.process.load(version.handle, version.folder, runtime)
            except Unavailable:
                version.ends += was_up
                raise
            try:
                version.describe(told, codec.unpack(parts[0], parts[1:]))
            except ModelFolderError:
                self.process.drop(version.handle)
                raise
            self.process.loaded.add(version.handle)

    def holds(self, version: Version) -> bool:
        """Whether its process can answer by this version."""
        return self.is_ready and version.handle in self.process.loaded

    def has_room(self, tokens: float) -> bool:
        within = self.tokens < tokens and self.bytes < MOST_BYTES
        return self.is_ready and not self.alone and (within or not self.out)

    def put(self, sending: Sending) -> None:
        self.out[sending.id] = sending
        self._weigh(sending, 1)

    def take_back(self, id: int) -> Sending | None:
        """What was sent under this number, answered or not; None where nobody waits for it any more."""
        sending = self.out.pop(id, None)
        if sending is not None:
            self._weigh(sending, -1)
        if not self.out:
            self.tokens = self.bytes = 0.0
            self.alone = False
        return sending

    def _weigh(self, sending: Sending, sign: int) -> None:
        request = sending.request
        self.tokens += sign * len(sending.places) * request.version.tokens
        self.bytes += sign * request.size * len(sending.places) / request.count
