"""Processes that are killed at some moment of a study, and several that share one: no trial is lost or done twice."""

from __future__ import annotations

import os
import random
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable
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


def part(folder: Path, *, seconds: float = 0.02, trials: int = TRIALS) -> None:
    """A process's work on the study in ``folder``; seconds: of each evaluation."""
    OPENED.clear()  # the parent's
    rows = Rows(log=folder / "log", at=lambda number: time.sleep(seconds))
    work_on(open_study(folder / "s.db"), folder, trials=trials, rows=rows).run()


def whole(folder: Path) -> list[tuple]:
    """What a study comes to that nobody interrupts."""
    part(folder, seconds=0.0)
    return summary(open_study(folder / "s.db"))


def test_a_killed_study_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("whole", "killed")]
    for folder in folders:
        folder.mkdir()
    expected = whole(folders[0])
    folder, rng, kills = folders[1], random.Random(0), 0
    while True:
        child = begin(lambda: part(folder))
        deadline = time.monotonic() + rng.uniform(0.05, 0.6)
        done, status = 0, 0
        while not done and time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            time.sleep(0.005)
        if done:
            assert status == 0
            break
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1
        assert kills < 100
    study = open_study(folder / "s.db")
    assert summary(study) == expected
    assert kills > 0
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
def test_a_kill_between_two_writes(moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The moments that a random kill rarely meets: right behind each write of a trial's end."""
    folders = [tmp_path / name for name in ("whole", "killed")]
    for folder in folders:
        folder.mkdir()
    expected = whole(folders[0])

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
            taken = [open_study(folders[1] / "s.db").take(most=TRIALS) for _ in range(3)]
            assert taken[-1] is not None
            os._exit(0)
        part(folders[1], seconds=0.0)

    assert os.WIFSIGNALED(os.waitpid(begin(killed_there), 0)[1]) == (moment != "owner")
    if moment == "owner":
        assert os.WIFSIGNALED(os.waitpid(begin(lambda: killed_there_again(folders[1])), 0)[1])
    part(folders[1], seconds=0.0)
    assert summary(open_study(folders[1] / "s.db")) == expected


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
