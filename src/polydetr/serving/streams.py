"""Rows that are answered while they come: JSON lines in, JSON lines out, in order, and no faster than they are read.

What has arrived is asked at once, ``stream_rows`` at most; no more than ``stream_asks`` such parts are under way before
the reader has taken the first. So memory stays bounded, however long the stream is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from contextlib import suppress
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from polydetr.errors import Location, PolydetrError, RowError
from polydetr.serving.asking import replies_patiently
from polydetr.serving.contract import Ask, Fleet, Reply
from polydetr.serving.json_body import NotJson, parsed
from polydetr.serving.limits import Limits
from polydetr.serving.refusal import Refused, error_body, json_bytes, refusal
from polydetr.serving.rows import Columns, Item, item_of

NDJSON = "application/x-ndjson"


async def answered_lines(
    request: Request,
    fleet: Fleet,
    model: str,
    columns: Columns,
    ask: Ask,
    limits: Limits,
    *,
    told: Callable[[Sequence[Reply]], None],
) -> AsyncIterator[bytes]:
    """The answers to a stream, some lines at a time. told: of what was answered, for the log.

    Raises:
        Refused, and what ``Fleet.answer`` raises: before the first lines. Later such an error is the last line.
    """
    waiting: asyncio.Queue[asyncio.Task[list[Reply]] | PolydetrError | None] = asyncio.Queue(limits.stream_asks)
    reading = asyncio.create_task(_read(request, fleet, model, columns, ask, limits, waiting))
    begun = False
    try:
        while (part := await waiting.get()) is not None:
            try:
                if isinstance(part, PolydetrError):
                    raise part
                replies = await part
            except PolydetrError as error:
                if not begun:
                    raise
                yield _line(error_body(refusal(error)))
                return
            begun = True
            told(replies)
            yield b"".join(map(_line, replies))
    finally:
        reading.cancel()
        while not waiting.empty():
            if isinstance(left := waiting.get_nowait(), asyncio.Task):
                left.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody will ask for it
                left.cancel()
        with suppress(asyncio.CancelledError):
            await reading


async def _read(
    request: Request, fleet: Fleet, model: str, columns: Columns, ask: Ask, limits: Limits, waiting: asyncio.Queue[Any]
) -> None:
    """Asks what has come, part by part; the queue is full where the reader is slow, and then nothing more is read."""
    number, last = 1, None
    try:
        async for lines in _lines(request, limits):
            items = [_item(line, columns) for line in lines]
            last = asyncio.create_task(
                replies_patiently(
                    fleet,
                    model,
                    items,
                    ask,
                    columns=columns,
                    timeout_s=limits.timeout_s,
                    first=number,
                    patience_s=limits.timeout_s,
                )
            )
            number += len(items)
            await waiting.put(last)
            last = None
    except PolydetrError as error:
        await waiting.put(error)
    except ClientDisconnect:
        pass
    finally:
        if last is not None:
            last.cancel()
    await waiting.put(None)


async def _lines(request: Request, limits: Limits) -> AsyncIterator[list[bytes]]:
    """What has arrived, as whole lines without blank ones, ``stream_rows`` at most at a time. Raises Refused."""
    rest = bytearray()  # which grows in place: a long line costs no more where it comes in many small parts
    async for data in request.stream():
        rest += data
        whole: list[bytes] = []
        if b"\n" in data:
            *whole, last = bytes(rest).split(b"\n")
            rest = bytearray(last)
        if len(rest) > limits.body_bytes or any(len(line) > limits.body_bytes for line in whole):
            raise Refused(413, f"a line has more than {limits.body_bytes:,} bytes.", reason="body")
        lines = [line for line in whole if line.strip()]
        for start in range(0, len(lines), limits.stream_rows):
            yield lines[start : start + limits.stream_rows]
    if rest.strip():
        yield [bytes(rest)]


def _item(line: bytes, columns: Columns) -> Item:
    try:
        return item_of(parsed(line), columns)
    except NotJson as error:
        return RowError(f"{error.message}.", location=Location(), hint=error.hint)


def _line(value: Any) -> bytes:
    return json_bytes(value) + b"\n"


class Streamed(Response):
    """A response whose body is read out of a request that is still coming. Starlette's own would read the request's
    messages meanwhile, to learn of a client that goes away, and so lose rows.
    """

    def __init__(self, first: bytes | None, rest: AsyncIterator[bytes]) -> None:
        self.status_code, self.background = 200, None
        self._first, self._rest = first, rest

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        # It may end before the request does; nginx would hold answers back until some thousand bytes are there.
        headers = [(b"content-type", NDJSON.encode()), (b"connection", b"close"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        if self._first:
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
        async for part in self._rest:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
