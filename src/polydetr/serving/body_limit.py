"""A request's body, counted and timed while it comes; and who sent it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from polydetr.serving.contract import Busy
from polydetr.serving.keys import Key
from polydetr.serving.limits import Limits
from polydetr.serving.refusal import Refused

CALLER = "polydetr.caller"
"""Under this name of the scope stands the ``Caller``."""
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
_LINGER_S = 2.0
"""How long the rest of a refused body is read and thrown away: a connection that is closed on data that was not read
is reset, and the client may never see why.
"""
_LINGER_BYTES = 32 << 20
_SMALL = 1 << 16
"""Bytes of a request for which there always is room: who sends much and slowly does not keep out who asks for a row."""


@dataclass
class Caller:
    """Who asks, and what becomes of it; for the log."""

    request_id: str
    key: Key | None = None
    began: float = field(default_factory=time.monotonic)
    status: int = 0
    received: int = 0
    reason: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    """What a route adds to the log: names of models, numbers of rows; never a text of the user."""

    @property
    def name(self) -> str:
        """Of its key; one and the same where no keys are used."""
        return self.key.name if self.key else ""


@dataclass
class Held:
    """Bytes of bodies in memory, of all requests together; ``most`` at most, but for what one alone may have."""

    most: int
    bytes: int = 0

    def check(self, size: int, *, mine: int) -> None:
        """size: what comes; mine: what this request has already. Raises Busy."""
        if mine + size > _SMALL and self.bytes > mine and self.bytes + size > self.most:
            raise Busy("the requests that are being received are larger than there is room for.", retry_after=1)


class BodyLimit:
    """How much of a body may come, and how slowly: ``receive`` of ASGI, counted and timed. path: where it is sent.
    most: bytes, None for a stream, of which every part may take its time. ended: there is none, or it was read to its
    end. kept: bytes of it that are in memory: of a stream the last line; none of a file that is larger than other
    bodies may be, which goes to the disk as it comes.
    """

    def __init__(self, receive: Receive, limits: Limits, caller: Caller, *, path: str, ended: bool, held: Held) -> None:
        self._receive, self._limits, self._caller, self.ended = receive, limits, caller, ended
        self._path, self._held, self.kept = path, held, 0
        self.most: int | None = 0
        self._earned = 0.0

    async def __call__(self) -> Message:
        if self.ended:  # what comes now is that the client went away
            return await self._receive()
        left = self._limits.body_s + (self._earned if self.most is not None else 0.0)
        began = time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), max(left, 0.01))
        except TimeoutError:
            raise Refused(
                408, "the body came too slowly.", hint=f"It may take {self._limits.body_s:.0f} s.", reason="slow"
            ) from None
        self._earned -= time.monotonic() - began
        if message["type"] != "http.request":
            self.ended = True
            return message
        size = len(message.get("body", b""))
        self._earned = min(self._earned + size / self._limits.body_rate, self._limits.body_s)
        self._caller.received += size
        if self.most is not None and self._caller.received > self.most:
            raise too_large(self.most, self._path)
        self._keep(message.get("body", b""))
        self.ended = not message.get("more_body", False)
        return message

    def _keep(self, data: bytes) -> None:
        """Raises Busy."""
        if self.most is None:
            _, end, line = data.rpartition(b"\n")
            kept = len(line) if end else self.kept + len(data)
        else:
            kept = self.kept + len(data) if self.most <= self._limits.body_bytes else 0
        self._held.check(kept - self.kept, mine=self.kept)
        self._held.bytes += kept - self.kept
        self.kept = kept

    def release(self) -> None:
        """The request is over."""
        self._held.bytes -= self.kept
        self.kept = 0

    async def thrown_away(self) -> None:
        """Reads what still comes, for a moment, and forgets it."""
        thrown = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while thrown < _LINGER_BYTES and not self.ended:
                    message = await self._receive()
                    thrown += len(message.get("body", b""))
                    self.ended = message["type"] != "http.request" or not message.get("more_body", False)


def too_large(most: int, path: str) -> Refused:
    """The refusal of a body of more than ``most`` bytes."""
    hint = {"/v1/jobs": "Send the rows in several files."}.get(path)
    if path.startswith("/v1/models/"):
        hint = "Send fewer rows at once, a stream (application/x-ndjson), or a job (POST /v1/jobs)."
    return Refused(413, f"the body has more than {most:,} bytes.", reason="body", hint=hint)
