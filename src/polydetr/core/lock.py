"""A lock between processes, which ends with the process that holds it: what a killed run leaves blocks nobody."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from polydetr.core.files import cannot_write, make_folder
from polydetr.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows, where a run is not kept from another's place
    fcntl = None


@contextmanager
def held(path: Path, *, what: str, wait: bool = False) -> Iterator[None]:
    """Holds the lock file ``path`` during the block and removes it afterwards.

    what: what is locked, for the message. wait: until another one lets go, for what takes a moment. Where the file
    system knows no locks, the block runs without.

    Raises:
        OutputError: another process, or another call in this one, holds it; says which. SaveError: the file cannot be
            made.
    """
    try:
        make_folder(path.parent)
        handle = _locked(path, wait=wait)
    except BlockingIOError:
        holder = "another run"
        with suppress(OSError):
            holder = path.read_text(encoding="utf-8") or holder
        raise OutputError(f"{what} is being written by {holder}.", hint="Wait for it, or name another place.") from None
    except OSError as error:
        raise cannot_write(path.parent, error) from error
    try:
        os.ftruncate(handle, 0)
        os.write(
            handle, f"process {os.getpid()} on {platform.node()}, since {datetime.now():%Y-%m-%d %H:%M:%S}".encode()
        )
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # while it is held: whoever opened it before finds that it is gone, and opens it anew
        os.close(handle)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock file ``path``; False where that cannot be known."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return False
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass  # a file system without locks
    finally:
        os.close(handle)
    return False


def _locked(path: Path, *, wait: bool) -> int:
    """An open handle of the file of this name, locked. Raises OSError; BlockingIOError where another holds it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            _lock(handle, wait=wait)
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                return handle
        except FileNotFoundError:  # removed by the one who held it
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _lock(handle: int, *, wait: bool) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError:
        pass  # a file system without locks
