"""How much memory a program may still take, what becomes of memory that it gives back, and giving it back."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path

_MEMINFO, _CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")


def free_memory() -> int | None:
    """Bytes that this process may still take, as far as the system says; None where it does not.

    The least of what is available (Linux) or built in (elsewhere), the container's limit and the process's own.
    """
    found: list[int] = []
    with suppress(OSError, ValueError, IndexError):
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines() if ":" in line)
        found.append(int(lines.get("MemAvailable", "").split()[0]) << 10)
    if not found:
        with suppress(OSError, ValueError, AttributeError):
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError, ValueError):
        found.append(int(_CGROUP.read_text()))
    with suppress(ImportError, OSError, ValueError):
        import resource  # Windows has none

        own = resource.getrlimit(resource.RLIMIT_AS)[0]
        found += [own] if own != resource.RLIM_INFINITY else []
    return min(found, default=None)


def keep_freed_memory(*, most: int = 1 << 31) -> bool:
    """Ask glibc to keep freed buffers instead of handing each back to the system and faulting it in again.

    Activations are tens of megabytes and live for one step: by default a step of 4,096 tokens takes 30,000 to
    200,000 page faults, 15 to 45 % of its time. Peak memory does not grow. False where there is no ``mallopt``.

    most: bytes that are kept at most at the end of the heap, and twice what a buffer may have to be kept.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    mmap_threshold, trim_threshold = -3, -1  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD in malloc.h
    return bool(mallopt(mmap_threshold, most // 2)) and bool(mallopt(trim_threshold, min(most, (1 << 31) - 1)))


def give_back_memory() -> None:
    """Hands freed memory back to the system, where the C library keeps it: after something large was freed that will
    not come again at once (a model).
    """
    with suppress(OSError, AttributeError, TypeError):  # another library than glibc
        ctypes.CDLL(None).malloc_trim(0)
