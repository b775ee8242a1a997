"""Processes that are killed at some moment of a study, and several that share one: no trial is lost or done twice."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tiny_studies import OPENED, Rows, open_study, summary, work_on

TRIALS = 8


def begin(work: Callable[[], None]) -> int:
    """A process of its own that does this."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def part(folder: Path, *, seconds: float = 0.02, trials: int = TRIALS, then: Callable[[], None] = lambda: None) -> None:
    """A process's work on the study in ``folder``; seconds: of each evaluation, before which ``then`` is called."""
    OPENED.clear()  # the parent's

    def at(number: int) -> None:
        then()
        time.sleep(seconds)

    rows = Rows(log=folder / "log", at=at)
    work_on(open_study(folder / "s.db"), folder, trials=trials, rows=rows).run()


def whole(folder: Path) -> list[tuple]:
    """What a study comes to that nobody interrupts."""
    part(folder, seconds=0.0)
    return summary(open_study(folder / "s.db"))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[tuple]:
    return whole(tmp_path_factory.mktemp("whole"))


def killed_soon(folder: Path, *, evaluations: int, seconds: float) -> None:
    """Works until it is killed, so many seconds behind the beginning of an evaluation, or of the process for the 0th:
    by what was done and not by the clock alone, a slow machine gets as far as a fast one.
    """
    left = evaluations

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            end.start()

    end = threading.Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGKILL))
    end.daemon = True
    if not evaluations:
        end.start()
    part(folder, then=count)


def test_a_killed_study_goes_on_as_if_it_had_not_been(tmp_path: Path, expected: list[tuple]) -> None:
    folder, rng, kills = tmp_path, random.Random(0), 0
    while True:
        evaluations = rng.randrange(5) + 5 * (kills % 2)  # a trial of four ends at last: what kills five times failed
        seconds = rng.uniform(0.0, 0.05 if evaluations else 0.3)
        child = begin(partial(killed_soon, folder, evaluations=evaluations, seconds=seconds))
        status = os.waitpid(child, 0)[1]
        if not os.WIFSIGNALED(status):
            assert status == 0
            break
        kills += 1
        assert kills < 100
    study = open_study(folder / "s.db")
    assert summary(study) == expected
    assert kills > 3
    lines = [line.split(" ", 2) for line in (folder / "log").read_text().splitlines()]
    for number in {name for _, name, _ in lines}:  # a trial that was begun anew had the same settings
        assert len({settings for _, name, settings in lines if name == number}) == 1


def test_several_processes_share_a_study(tmp_path: Path) -> None:
    open_study(tmp_path / "s.db")
    children = [begin(lambda: part(tmp_path, seconds=0.05, trials=10)) for _ in range(3)]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
    records = open_study(tmp_path / "s.db").records()
    assert [record.number for record in records] == list(range(10))
    assert {record.state for record in records} <= {"complete", "pruned"}
    lines = [line.split(" ", 2) for line in (tmp_path / "log").read_text().splitlines()]
    assert Counter(name for _, name, _ in lines) == dict.fromkeys((f"{i:03d}" for i in range(10)), 1)
    assert len({process for process, _, _ in lines}) > 1
    assert len({str(record.settings) for record in records}) == 10


def test_what_a_killed_process_had_is_done_by_one_that_lives(tmp_path: Path) -> None:
    open_study(tmp_path / "s.db")
    slow = begin(lambda: part(tmp_path, seconds=60.0, trials=3))
    while not (tmp_path / "log").exists():
        time.sleep(0.01)
    study = open_study(tmp_path / "s.db")
    assert study.under_way() == [f"process {slow} on {os.uname().nodename}"]
    other = begin(lambda: part(tmp_path, trials=3))
    while sum(record.state != "running" for record in study.records()) < 2:
        time.sleep(0.05)
    assert os.waitpid(other, os.WNOHANG)[0] == 0  # it waits for the one that is left
    os.kill(slow, signal.SIGKILL)
    os.waitpid(slow, 0)
    assert os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) == 0
    assert [record.state for record in study.records()].count("running") == 0
    assert [record.number for record in study.records()] == [0, 1, 2]


@pytest.mark.parametrize("moment", ["owner", "result", "state"])
def test_a_kill_between_two_writes(
    moment: str, tmp_path: Path, expected: list[tuple], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moments that a random kill rarely meets: right behind each write of a trial's end."""

    def killed_there() -> None:
        from optuna.storages import RDBStorage

        attribute, state = RDBStorage.set_trial_user_attr, RDBStorage.set_trial_state_values

        def set_attribute(self: RDBStorage, trial: int, key: str, value: object) -> None:
            attribute(self, trial, key, value)
            if key == moment and trial == 3:
                os.kill(os.getpid(), signal.SIGKILL)

        def set_state(self: RDBStorage, trial: int, *values: object) -> bool:
            done = state(self, trial, *values)  # type: ignore[arg-type]
            if moment == "state" and trial == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        monkeypatch.setattr(RDBStorage, "set_trial_user_attr", set_attribute)
        monkeypatch.setattr(RDBStorage, "set_trial_state_values", set_state)
        if moment == "owner":  # of a trial that is taken up again
            taken = [open_study(tmp_path / "s.db").take(most=TRIALS) for _ in range(3)]
            assert taken[-1] is not None
            os._exit(0)
        part(tmp_path, seconds=0.0)

    assert os.WIFSIGNALED(os.waitpid(begin(killed_there), 0)[1]) == (moment != "owner")
    if moment == "owner":
        assert os.WIFSIGNALED(os.waitpid(begin(lambda: killed_there_again(tmp_path)), 0)[1])
    part(tmp_path, seconds=0.0)
    assert summary(open_study(tmp_path / "s.db")) == expected


def killed_there_again(folder: Path) -> None:
    """Killed right after it wrote that it has the trial of a dead process."""
    from optuna.storages import RDBStorage

    attribute = RDBStorage.set_trial_user_attr

    def set_attribute(self: RDBStorage, trial: int, key: str, value: object) -> None:
        attribute(self, trial, key, value)
        if key == "owner":
            os.kill(os.getpid(), signal.SIGKILL)

    RDBStorage.set_trial_user_attr = set_attribute  # type: ignore[method-assign]
    part(folder, seconds=0.0)
