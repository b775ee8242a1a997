"""A time limit as it is spent, on a clock that the test moves."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from polydetr.core import clock
from polydetr.training import budget
from polydetr.training.budget import Budget


class Clock:
    """Its seconds pass when told."""

    def __init__(self) -> None:
        self.now = self.computed = 100.0

    def monotonic(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.computed


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=moved.monotonic, process_time=moved.process_time))
    return moved


def test_what_is_left_counts_from_where_the_command_began(moved: Clock) -> None:
    found = Budget(30.0, began=97.0)
    assert (found.spent(), found.left()) == (3.0, 27.0)
    moved.now += 28
    assert found.left() == -1.0


def test_the_slowness_is_time_passed_over_time_computed(moved: Clock) -> None:
    found = Budget(30.0, began=0.0)
    assert found.slowness() == 1.0
    moved.now, moved.computed = moved.now + 9, moved.computed + 3
    assert found.slowness() == 3.0
    moved.computed += 100  # several threads
    assert found.slowness() == 1.0


def test_reading_ends_in_time_but_not_before_the_least(moved: Clock) -> None:
    def rows() -> object:
        for i in range(100):
            moved.now += 1
            yield i

    found = Budget(30.0, began=100.0)
    assert len(list(found.within(rows(), "a", seconds=10, least=3))) == 10
    assert len(list(found.within(rows(), "b", seconds=1, least=5))) == 5
    assert len(list(found.within(rows(), "c", seconds=1000, least=5))) == 100
    assert found.decided == {"a": 10, "b": 5, "c": None}


def test_a_resumed_run_reads_what_it_had_read_however_long_it_takes(moved: Clock) -> None:
    def rows() -> object:
        for i in range(20):
            moved.now += 50
            yield i

    found = Budget(30.0, began=100.0, kept={"a": 7, "c": None, "d": 9})
    assert list(found.within(rows(), "a", seconds=1000, least=3)) == list(range(7))
    assert len(list(found.within(rows(), "c", seconds=1, least=3))) == 20
    assert found.choose("d", 4) == 9
    assert found.choose("e", 4) == 4
    assert found.decided == {"a": 7, "c": None, "d": 9, "e": 4}


def test_a_command_begins_with_its_process_and_a_call_when_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "process_age", lambda: 3.0)
    now = clock.time.monotonic()
    assert now <= clock.began() < now + 1
    with clock.command():
        assert now - 3.1 < clock.began() < now - 2
    monkeypatch.setattr(clock, "process_age", lambda: 3000.0)  # a process that was there for something else
    with clock.command():
        assert clock.began() >= now
    assert clock.began() >= now


def test_a_process_is_as_old_as_what_it_computed_at_least() -> None:
    assert clock.process_age() >= clock.time.process_time() - 0.1
