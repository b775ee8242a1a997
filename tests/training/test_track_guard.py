"""A tracker that fails, hangs or fills the disk neither stops nor slows a training, and is told once."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections import namedtuple
from pathlib import Path

import pytest
from bad_trackers import Kept

from polydetr.errors import ConfigError
from polydetr.training import tracking
from polydetr.training.callbacks import StepInfo
from polydetr.training.trackers import guard as guard_module
from polydetr.training.trackers import worker
from polydetr.training.trackers.base import TrackedRun, flat
from polydetr.training.trackers.worker import Clock, DiskFull, reason_of, serve
from polydetr.training.tracking import Trackers, check_installed, make_trackers

INFO = StepInfo(0.25, 50, 1.2, 0.4321, 2560.4, "2,560 tokens/s", 90.0, 1e-3)
ENTRY = {"step": 9, "epoch": 1.0, "seconds": 75.0, "train_loss": 0.5, "valid_loss": 0.6,
         "metrics": {"label": {"accuracy": 0.75, "ece": float("nan")}}}  # fmt: skip


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Starts trackers of ``bad_trackers`` by their names; what they say to the user is in ``notes``."""
    notes: list[str] = []

    def start(*names: str, patience: float = 60.0, wait: float = 30.0) -> Trackers:
        monkeypatch.syspath_prepend(Path(__file__).parent)
        monkeypatch.setattr(guard_module, "PATIENCE", patience)
        monkeypatch.setattr(tracking, "CLOSE_SECONDS", wait)
        monkeypatch.setattr(tracking, "EVERY_SECONDS", 0.0)
        monkeypatch.setattr(tracking, "TRACKERS", {name: f"bad_trackers:{name}" for name in names})
        monkeypatch.setattr(tracking, "check_installed", lambda kind: None)
        return make_trackers(names, tmp_path, config={"seed": 3}, name="run", notify=notes.append)

    start.notes = notes  # type: ignore[attr-defined]
    start.said = lambda: (tmp_path / "said").read_text().splitlines()  # type: ignore[attr-defined]
    return start


def stepped(trackers: Trackers, steps: int = 5, *, pause: float = 0.0) -> float:
    """The longest that one step took, in seconds."""
    longest = 0.0
    for step in range(1, steps + 1):
        began = time.monotonic()
        trackers.step(StepInfo(0.1, step, 0.1, 1.0 / step, 100.0, "", 1.0, 1e-3))
        longest = max(longest, time.monotonic() - began)
        time.sleep(pause)
    return longest


def test_what_a_run_tells_arrives_in_its_order(started):
    trackers = started("Kept")
    trackers.note("reads [text]")
    trackers.step(INFO)
    trackers.evaluation(ENTRY)
    trackers.close()
    trackers.close("failed")  # the second time it does nothing
    assert started.said() == [
        "opened run",
        "scalars {'train/loss': 0.4321, 'train/lr': 0.001, 'train/tokens_per_second': 2560.4} 50",
        "scalars {'train/mean_loss': 0.5, 'valid/loss': 0.6, 'valid/label/accuracy': 0.75} 9",  # what is no number: no
        "text messages reads [text] 9",
        "closed finished",
    ]
    assert started.notes == []


def test_steps_are_recorded_once_a_second(started, monkeypatch):
    trackers = started("Kept")
    monkeypatch.setattr(tracking, "EVERY_SECONDS", 1.0)
    stepped(trackers, 50)
    trackers.close()
    assert sum(line.startswith("scalars") for line in started.said()) == 1


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("FailsToOpen", "RuntimeError: no such server"),
        ("FailsInTheMiddle", "ValueError: step 3 is too much"),
        ("FailsToClose", "OSError: [Errno 28] No space left on device"),
        ("OnAFullDisk", "OSError: [Errno 28] No space left on device"),
        ("Dies", "its process ended with status -11"),
    ],
)
def test_one_that_fails_is_told_once_and_the_others_go_on(started, kind, reason):
    trackers = started(kind, "Kept")
    stepped(trackers, 5)
    trackers.close()
    assert started.notes == [f"track: {kind} is switched off, the run goes on without it: {reason}"]
    said = started.said()
    assert "closed finished" in said
    assert "scalars {'train/loss': 0.2, 'train/lr': 0.001, 'train/tokens_per_second': 100.0} 5" in said


def test_a_failure_is_told_while_the_run_goes_on(started):
    trackers = started("FailsToOpen")
    until = time.monotonic() + 30
    while not started.notes and time.monotonic() < until:
        stepped(trackers, 1, pause=0.05)
    assert "no such server" in started.notes[0]
    assert not trackers.is_on
    trackers.records(iter(lambda: pytest.fail("nothing is drawn for trackers that are off"), None))
    trackers.close()
    assert len(started.notes) == 1


@pytest.mark.parametrize("kind", ["SleepsForEver", "SleepsOpening"])
def test_one_that_sleeps_for_ever_never_makes_the_run_wait(started, kind):
    trackers = started(kind, wait=0.5)
    longest = stepped(trackers, 3000)  # more than queue and pipe hold
    assert longest < 0.5
    trackers.scalars({f"x{i}": 1.0 for i in range(20_000)}, step=3001)
    time.sleep(0.5)
    trackers.scalars({f"x{i}": 1.0 for i in range(20_000)}, step=3002)
    began = time.monotonic()
    trackers.close()
    assert time.monotonic() - began < 5.0
    assert any(f"track: {kind} was too slow for" in note for note in started.notes)
    assert any("took nothing more" in note for note in started.notes)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there is no such clock")
def test_one_that_hangs_is_ended_by_its_own_clock(started):
    trackers = started("SleepsForEver", patience=1.0)
    stepped(trackers, 1)
    trackers.close()
    (note,) = started.notes
    assert "it did not answer for 1 seconds" in note


def test_one_that_is_slow_at_the_end_goes_on_by_itself(started, tmp_path):
    trackers = started("Kept", wait=0.0)
    stepped(trackers, 1)
    trackers.close()
    assert started.notes == ["track: Kept is still writing, which nothing here waits for"]
    until = time.monotonic() + 30
    while time.monotonic() < until and (not (tmp_path / "said").exists() or "closed finished" not in started.said()):
        time.sleep(0.05)
    assert started.said()[-1] == "closed finished"


def test_of_a_time_limit_the_end_waits_only_for_what_is_left(started):
    trackers = started("SleepsOpening", wait=60.0, patience=5.0)
    trackers.over_at = time.monotonic() + 0.2
    began = time.monotonic()
    trackers.close()
    assert time.monotonic() - began < 2.0


def test_ctrl_c_while_the_end_waits_only_ends_the_waiting(started, tmp_path):
    trackers = started("Kept")
    stepped(trackers, 1)
    guard = trackers._guards[0]
    written = guard.wait

    def interrupted(until: float) -> None:
        raise KeyboardInterrupt

    guard.wait = interrupted  # type: ignore[method-assign]
    trackers.close("interrupted")
    written(time.monotonic() + 30)
    assert started.said()[-1] == "closed interrupted"


def test_half_a_character_is_no_reason_to_fail(started):
    trackers = started("Kept")
    trackers.note("a\ud83d b 花")
    trackers.close()
    assert started.said()[1:] == ["text messages a? b 花 0", "closed finished"]
    assert started.notes == []


def test_what_a_tool_prints_is_not_the_run_s(started, capfd):
    trackers = started("Prints")
    stepped(trackers, 1)
    trackers.close()
    assert started.said()[-1] == "closed finished"
    assert capfd.readouterr() == ("", "")


def test_no_key_or_password_is_told(started, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    trackers = started("TellsASecret")
    stepped(trackers, 1)
    trackers.close()
    (note,) = started.notes
    assert "refused key … at postgresql://…@host/db" in note


def test_a_process_that_cannot_be_started_is_told(started, monkeypatch):
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    trackers = started("Kept")
    trackers.close()
    (note,) = started.notes
    assert "it cannot be started" in note


def test_what_is_dropped_is_counted(started, monkeypatch):
    monkeypatch.setattr(guard_module, "WAITING", 2)
    trackers = started("SleepsOpening", patience=2.0)
    text = "x" * 400_000  # more than a pipe holds
    for step in range(8):
        trackers._put("text", name="long", text=text, step=step)
    guard = trackers._guards[0]
    assert guard.dropped >= 4
    trackers.close()
    assert any(f"track: SleepsOpening was too slow for {guard.dropped} records" in note for note in started.notes)


def test_a_failure_in_what_is_recorded_last_does_not_end_the_run(started):
    def records():
        raise RuntimeError("a picture that cannot be drawn")
        yield

    trackers = started("Kept")
    trackers.records(records())
    trackers.close()
    assert started.notes == ["track: not all was recorded (RuntimeError: a picture that cannot be drawn)"]


# -- the other end -----------------------------------------------------------------------------------------------------


def test_the_disk_is_left_to_the_training(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    free = iter([10 * 2**30, 100 * 2**20])
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(0, 0, next(free)))
    monkeypatch.setattr(worker, "SECONDS_OF_DISK", 0.0)
    tracker = Kept(TrackedRun(str(tmp_path), "run", {}))
    line = b'{"do": "scalars", "values": {"x": 1, "y": null}, "step": %d}\n'
    with pytest.raises(DiskFull, match="only 100 MiB are free on the disk, which are left to the training"):
        serve(tracker, [line % 1, line % 2, line % 3], clock=Clock(60.0))
    assert (tmp_path / "said").read_text().splitlines() == ["opened run", "scalars {'x': 1} 1"]


def test_a_run_whose_process_was_killed_is_closed_as_failed(tmp_path):
    tracker = Kept(TrackedRun(str(tmp_path), "run", {}))
    serve(tracker, [b'{"do": "summary", "values": {}, "step": 1}'], clock=Clock(60.0))
    assert (tmp_path / "said").read_text().splitlines()[-1] == "closed failed"


def test_a_reason_is_one_line():
    assert reason_of(OSError(28, "full\nof it")) == "OSError: [Errno 28] full"
    assert reason_of(RuntimeError()) == "RuntimeError:"


def test_the_tools_are_told_to_stay_at_home(monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert worker.environment()["WANDB_MODE"] == "offline"
    assert worker.environment()["MLFLOW_DISABLE_TELEMETRY"] == "true"
    monkeypatch.setenv("WANDB_MODE", "online")
    assert worker.environment()["WANDB_MODE"] == "online"  # the user's own word


def test_sections_become_dotted_keys():
    assert flat({"seed": 3, "training": {"lr": 1e-4, "lora": {"rank": 0}}, "tasks": {}}) == {
        "seed": 3, "training.lr": 1e-4, "training.lora.rank": 0, "tasks": {},
    }  # fmt: skip


def test_the_key_of_a_run_is_its_own():
    runs = [TrackedRun("a", "one", {}), TrackedRun("a", "two", {}), TrackedRun("b", "one", {}),
            TrackedRun("a", "one", {}, group="study")]  # fmt: skip
    assert len({run.key for run in runs}) == 4
    assert TrackedRun("a", "one", {"x": 1}, resumed=True).key == runs[0].key


# -- what is not there -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "module"),
    [("tensorboard", "tensorboard"), ("wandb", "wandb"), ("mlflow", "mlflow"), ("mlflow", "alembic")],
)
def test_a_missing_library_is_a_configuration_error_with_its_install_line(tmp_path, monkeypatch, kind, module):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    told = rf"track = '{kind}': .*{module}.* not installed\. pip install 'polydetr.*\[{kind}\]'"
    with pytest.raises(ConfigError, match=told):
        make_trackers(["tensorboard", kind][kind == "tensorboard" :], tmp_path, config={}, name="run")
    assert not list(tmp_path.iterdir())


def test_a_folder_of_that_name_is_no_library(tmp_path, monkeypatch):
    (tmp_path / "wandb_is_not_here").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(tracking._NEEDS, "wandb", ("wandb_is_not_here",))
    with pytest.raises(ConfigError, match="wandb_is_not_here is not installed"):
        check_installed("wandb")


def test_nothing_is_started_unless_asked(tmp_path):
    threads = threading.active_count()
    trackers = make_trackers((), tmp_path / "runs", config={}, name="run")
    trackers.note("hello")
    trackers.step(INFO)
    trackers.evaluation(ENTRY)
    trackers.close()
    assert not (tmp_path / "runs").exists()
    assert threading.active_count() == threads
    assert os.listdir(tmp_path) == [] or os.listdir(tmp_path) == ["polydetr-cache"]
