"""uvicorn's HTTP/1.1 with an end to waiting: for the head of a request, and for a reader who does not read.

uvicorn knows a limit for idle connections alone; a client that sends a byte of its head now and then is never done with
("slowloris"), and one that takes no answers holds what was written for it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from polydetr.serving.limits import Limits


class PatientProtocol(H11Protocol):
    """With the limits ``connections``, ``header_s`` and ``send_s``."""

    limits = Limits()

    @classmethod
    def within(cls, limits: Limits) -> type[PatientProtocol]:
        """A class of these limits: uvicorn makes the protocols itself."""
        return type(cls.__name__, (cls,), {"limits": limits})

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head: asyncio.TimerHandle | None = None
        self._reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            transport.abort()
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head, self._reader = _cancelled(self._head), _cancelled(self._reader)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._await_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reader = self._reader or self.loop.call_later(self.limits.send_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._reader = _cancelled(self._reader)

    def _await_head(self) -> None:
        """Begins to wait where part of a head is there, or nothing yet; stops where the head is whole."""
        if self.conn.their_state is not h11.IDLE:
            self._head = _cancelled(self._head)
        elif self._head is None and not self.transport.is_closing():
            self._head = self.loop.call_later(self.limits.header_s, self.transport.abort)


def _cancelled(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
