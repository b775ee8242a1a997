"""Which process has a trial, and whether that process still lives: what a killed one had is taken up by another."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

BEAT_SECONDS = 30.0
"""Between two signs of life, for those on other machines."""
SILENT_SECONDS = 300.0
"""Without a sign of life a process on another machine counts as dead. On the same one the system knows at once."""


def this_process() -> dict[str, Any]:
    """What tells this process from all others, as it is written into a study."""
    return {"pid": os.getpid(), "started": _started(os.getpid()), "machine": _machine(), "name": platform.node()}


def is_this_process(owner: Mapping[str, Any]) -> bool:
    return all(owner.get(key) == value for key, value in this_process().items())


def is_alive(owner: Mapping[str, Any], beat: float | None) -> bool:
    """Whether the process goes on. beat: its last sign of life, by ``time.time``; None where it gave none."""
    if owner.get("machine") == _machine():
        started = _started(int(owner.get("pid", 0)))
        return started is not None and started == owner.get("started")
    return beat is not None and time.time() - beat < SILENT_SECONDS


def told(owner: Mapping[str, Any]) -> str:
    """For messages."""
    return f"process {owner.get('pid')} on {owner.get('name')}"


@contextmanager
def beating(beat: Callable[[float], None]) -> Iterator[None]:
    """Gives a sign of life every ``BEAT_SECONDS`` during the block; one that cannot be given is left out."""
    ended = threading.Event()

    def beats() -> None:
        while not ended.wait(BEAT_SECONDS):
            with suppress(Exception):  # a database that is away for a moment; the study itself finds that out
                beat(time.time())

    thread = threading.Thread(target=beats, daemon=True, name="polydetr-beat")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _machine() -> str:
    """The same for processes that see one another's numbers: machine, its start, and the container."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(os.stat("/proc/self/ns/pid").st_ino))
    return " ".join(parts)


def _started(pid: int) -> int | None:
    """When the process was started, in the system's own count: a number that dead processes leave is given out again.
    0 where the system tells no more than that it lives, None where it is dead.
    """
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else int(rest[18])
    except (OSError, ValueError, IndexError):
        if Path("/proc/self/stat").exists():
            return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass  # it is another user's
    return 0
