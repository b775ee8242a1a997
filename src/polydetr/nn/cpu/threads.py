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
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

T = TypeVar("T")
R = TypeVar("R")


def _alone_after_fork() -> None:
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_alone_after_fork)


def waits_asleep() -> bool:
    """Whether threads sleep while they wait for one another (``training/__init__``), and do not spin."""
    return os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE"


def one_thread() -> None:
    """From here on, to its end, the calling thread computes on one core: for threads of a pool of one's own."""
    torch.get_num_threads()  # PyTorch sets a thread's count at its first query, which must come before
    threadpool_limits(1, user_api="openmp")
    local = _mkl_threads_of_this_thread()
    if local is not None:
        local(1)


@contextmanager
def limited_to(count: int | None) -> Iterator[None]:
    """Within it the calling thread, and no other, computes on ``count`` cores; None leaves it as it is."""
    if count is None:
        yield
        return
    torch.get_num_threads()
    local = _mkl_threads_of_this_thread()
    before = local(count) if local is not None else 0
    try:
        with threadpool_limits(count, user_api="openmp"):
            yield
    finally:
        if local is not None:
            local(before)


def numpy_on_one_core() -> AbstractContextManager[object]:
    """Within it NumPy and SciPy multiply matrices on one core: OpenBLAS parts small products too, and its threads spin
    while they wait for one another, so that beside other programs a thousand small products take forty times as long.
    """
    return threadpool_limits(1, user_api="blas")


def each_on_a_core(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """``work`` of each item, in order: of NumPy and SciPy, side by side on as many cores as PyTorch computes on."""
    with numpy_on_one_core(), ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="polydetr") as pool:
        return list(pool.map(work, items))


def _mkl_threads_of_this_thread() -> Callable[[int], int] | None:
    """MKL's own function, which returns the number that it replaces (0: none of its own); None where there is none."""
    if torch.backends.mkl.is_available():
        with suppress(OSError, AttributeError):  # not every build exports it
            torch_cpu = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
            return torch_cpu.MKL_Set_Num_Threads_Local
    return None


def single_threaded_pool(size: int) -> ThreadPoolExecutor:
    """``size`` worker threads, each of which computes on one core; whoever makes the pool shuts it down."""
    return ThreadPoolExecutor(size, thread_name_prefix="polydetr", initializer=one_thread)
