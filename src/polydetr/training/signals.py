"""Ctrl-C and termination end a run after the step under way, not inside it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class StopRequest:
    """wanted: whether a signal came."""

    wanted: bool = False


@contextmanager
def asked_to_stop() -> Iterator[StopRequest]:
    """Inside, the first signal is only noted; a second Ctrl-C raises KeyboardInterrupt at once."""
    request = StopRequest()

    def handle(number: int, frame: Any) -> None:
        if request.wanted and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.wanted = True

    try:
        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: whoever owns it handles signals
        yield request
        return
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
