"""How old a command is: its time limit counts from the start of the process, before Python has loaded anything. And how
seconds are written.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

FRESH_SECONDS = 20.0
"""A process that is older when a command begins was there for something else."""
_BEGAN: ContextVar[float | None] = ContextVar("command_began", default=None)


def process_age() -> float:
    """Seconds since this process was started; where the system does not say, those it has computed."""
    computed = time.process_time()
    try:
        started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        age = float(Path("/proc/uptime").read_text().split()[0]) - started
    except (OSError, ValueError, IndexError, AttributeError):
        return computed
    return max(age, computed)


@contextmanager
def command() -> Iterator[None]:
    """Within it, ``began`` is when the process was started, where that was for this command."""
    age = process_age()
    token = _BEGAN.set(time.monotonic() - (age if age <= FRESH_SECONDS else 0.0))
    try:
        yield
    finally:
        _BEGAN.reset(token)


def began() -> float:
    """When the command began, by ``time.monotonic``: now, for a call that is no command."""
    since = _BEGAN.get()
    return time.monotonic() if since is None else since


def format_seconds(seconds: float) -> str:
    """75 → 1:15."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
