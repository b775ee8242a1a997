"""Worker threads that compute on one core each, while the process keeps its number of threads.

``torch.set_num_threads`` is no way to have them: beside the thread that calls it, it sets what every thread begun later
starts with, for the rest of its life. OpenMP's own count belongs to the calling thread; so does a second one of MKL,
which multiplies matrices in float32 and heeds OpenMP's only as long as nobody has called ``set_num_threads``.

A forked process has none of its parent's threads, and OpenMP waits for ever for those that it remembers: there every
computation runs on the thread that asks for it.
"""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits


def _alone_after_fork() -> None:
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_alone_after_fork)


def one_thread() -> None:
    """From here on, to its end, the calling thread computes on one core: for threads of a pool of one's own."""
    torch.get_num_threads()  # PyTorch sets a thread's count at its first query, which must come before
    threadpool_limits(1, user_api="openmp")
    if torch.backends.mkl.is_available():
        with suppress(OSError, AttributeError):  # not every build exports it
            torch_cpu = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
            torch_cpu.MKL_Set_Num_Threads_Local(1)


def single_threaded_pool(size: int) -> ThreadPoolExecutor:
    """``size`` worker threads, each of which computes on one core; whoever makes the pool shuts it down."""
    return ThreadPoolExecutor(size, thread_name_prefix="polydetr", initializer=one_thread)
