"""What goes on by itself while a page is looked at: one task per page, which ends with it.

A browser that leaves at once never starts one; one that leaves later ends it. No timer is left behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from nicegui import Client, context

_LOGGER = logging.getLogger("polydetr.web")
_PATIENCE_S = 30.0
"""How long a browser may take from the page to its connection."""
_RUNNING: set[asyncio.Task[None]] = set()
"""The event loop itself holds tasks weakly."""


def begin(work: Callable[[], Coroutine[Any, Any, None]], *, client: Client | None = None) -> Callable[[], None]:
    """Does ``work`` once the browser is connected; returns what ends it early. What fails is said on the page."""
    client = client or context.client

    async def run() -> None:
        try:
            await client.connected(_PATIENCE_S)
            if not client.is_deleted:
                await work()
        except (asyncio.CancelledError, TimeoutError):
            pass
        except Exception as error:
            if not client.is_deleted:
                client.handle_exception(error)
            else:
                _LOGGER.debug("a page has left", exc_info=error)

    task = asyncio.get_running_loop().create_task(run())
    _RUNNING.add(task)
    task.add_done_callback(_RUNNING.discard)

    def stop() -> None:
        task.cancel()

    client.on_delete(stop)
    return stop


def follow(look: Callable[[], Awaitable[bool]], *, seconds: float, client: Client | None = None) -> Callable[[], None]:
    """``look`` every so many seconds, one after the other, until it says False: there is nothing more to see."""

    async def run() -> None:
        while await look():
            await asyncio.sleep(seconds)

    return begin(run, client=client)
