"""Worker threads that compute alone leave every other thread of the process as it was."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from threadpoolctl import threadpool_info

from polydetr.nn.cpu.int8 import computes_int8, int8_speedup
from polydetr.nn.cpu.threads import each_on_a_core, limited_to, numpy_on_one_core, single_threaded_pool

CPU_TIME = """
import os, time
import torch
from polydetr.nn.cpu.threads import limited_to, single_threaded_pool

torch.set_num_threads(4)  # which MKL takes for its own as well, and gives it precedence over OpenMP's

def share():
    x, names = torch.randn(700, 700), ("mm", "gelu")
    def work():
        torch.mm(x, x)
        torch.nn.functional.gelu(x)
    work()
    own, whole = time.thread_time(), time.process_time()
    for _ in range(5):
        work()
    return (time.thread_time() - own) / (time.process_time() - whole)

with single_threaded_pool(1) as pool:
    print(pool.submit(share).result())
with limited_to(1):
    print(share())
"""


@pytest.fixture(autouse=True)
def process_count_stays(monkeypatch: pytest.MonkeyPatch):
    before = torch.get_num_threads()

    def forbidden(count: int) -> None:
        raise AssertionError(f"the process's thread count was set to {count}")

    monkeypatch.setattr(torch, "set_num_threads", forbidden)
    yield
    assert torch.get_num_threads() == before


def count_of_a_new_thread() -> int:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


def test_each_worker_computes_alone_and_threads_begun_meanwhile_do_not() -> None:
    before, barrier = count_of_a_new_thread(), threading.Barrier(4)

    def count(_: int) -> int:
        barrier.wait(10)  # so that every one of the four works
        return torch.get_num_threads()

    with single_threaded_pool(3) as pool:
        counts = pool.map(count, range(3))
        assert count_of_a_new_thread() == before
        barrier.wait(10)
        assert list(counts) == [1, 1, 1]
        assert count_of_a_new_thread() == before
    assert count_of_a_new_thread() == before


def test_a_limit_holds_for_the_thread_that_asked_and_ends_with_its_block() -> None:
    before = torch.get_num_threads()
    with limited_to(1):
        assert torch.get_num_threads() == 1
        assert count_of_a_new_thread() == before
    assert torch.get_num_threads() == before
    with limited_to(None):
        assert torch.get_num_threads() == before


def blas_counts() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_numpy_multiplies_on_one_core_to_the_end_of_the_block() -> None:
    before = blas_counts()
    with numpy_on_one_core():
        assert blas_counts() == {1}
    assert blas_counts() == before


def test_each_item_is_worked_on_by_a_core_of_its_own() -> None:
    before = blas_counts()
    found = each_on_a_core(lambda number: (number, blas_counts()), range(6))
    assert found == [(number, {1}) for number in range(6)]
    with pytest.raises(ZeroDivisionError):
        each_on_a_core(lambda divisor: 1 / divisor, [1, 0, 2])
    assert blas_counts() == before


def test_no_other_core_works_for_a_worker() -> None:
    # In a process of its own: the count it sets first is that process's.
    done = subprocess.run([sys.executable, "-c", CPU_TIME], check=True, capture_output=True, text=True)
    assert all(float(share) > 0.9 for share in done.stdout.split())


@pytest.mark.skipif(not computes_int8(), reason="this CPU sums no products of bytes")
def test_measuring_the_gain_of_8_bit_integers_leaves_the_thread_count_alone() -> None:
    int8_speedup.cache_clear()
    before = count_of_a_new_thread()
    assert int8_speedup(torch.float32) > 0
    assert count_of_a_new_thread() == before
