"""What a run shows and logs: a bar in a terminal, lines elsewhere, event files for a dashboard."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import time

import pytest
from rich.console import Console
from tiny_runs import Watched, train

from polydetr.errors import ConfigError
from polydetr.training import display
from polydetr.training.display import BarDisplay, LineDisplay, describe_step, format_seconds
from polydetr.training.loop import StepInfo
from polydetr.training.tracking import Tracker, make_tracker

INFO = StepInfo(0.25, 50, 1.2, 0.4321, 2560.4, "2,560 tokens/s", 90.0, 1e-3)
ENTRY = {"step": 9, "epoch": 1.0, "seconds": 75.0, "train_loss": 0.5, "valid_loss": 0.6,
         "metrics": {"label": {"accuracy": 0.75, "macro_f1": 0.7, "ece": 0.1}}}  # fmt: skip

IN_TERMINAL = """
from polydetr.training.display import make_display
from polydetr.training.loop import StepInfo
import time
shown = make_display()
shown.note("reads [text]; predicts [label]")
for step in range(1, 4):
    shown.step(StepInfo(step / 4, step, step / 2, 0.5 / step, 2560, "2,560 tokens/s", 4 - step, 1e-3))
    time.sleep(0.3)
shown.close()
"""


def test_seconds_as_a_person_writes_them():
    assert [format_seconds(s) for s in (0, 75, 3599.6, 3675)] == ["0:00", "1:15", "1:00:00", "1:01:15"]


def test_messages_command_no_terminal_and_end(capsys):
    stream = io.StringIO()
    odd = "read \x1b]0;owned\x07" + "x" * 100_000
    LineDisplay().note(odd)
    BarDisplay(Console(file=stream, force_terminal=False)).note(odd)
    for text in (capsys.readouterr().err, stream.getvalue()):
        assert "read \\x1b]0;owned\\x07xxx" in text
        assert len(text) < 1100


def test_a_step_tells_the_remaining_time_first():
    assert describe_step(INFO) == "1:30 left · epoch 1.2 · loss 0.432 · 2,560 tokens/s"


def test_a_terminal_shows_a_bar_with_the_remaining_time():
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "90", "LINES": "24"}
    process = subprocess.Popen([sys.executable, "-c", IN_TERMINAL], stderr=theirs, stdin=theirs, env=environment)
    os.close(theirs)
    seen = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        seen += part
    os.close(ours)
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert "• reads [text]; predicts [label]" in text  # not taken for markup
    assert "50 % 0:02 left · epoch 1.0 · loss 0.250 · 2,560 tokens/s" in text
    assert "━" in text


def test_a_narrow_terminal_keeps_the_remaining_time():
    stream = io.StringIO()
    bar = BarDisplay(Console(file=stream, force_terminal=True, width=60, color_system=None))
    bar.step(INFO)
    bar.close()
    assert "1:30 left" in stream.getvalue()


def test_a_log_gets_lines(capsys, monkeypatch):
    monkeypatch.setattr(display, "LINE_SECONDS", 0.0)
    shown = LineDisplay()
    shown.note("hello")
    shown.step(INFO)
    shown.evaluation(ENTRY)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "hello",
        " 25% · 1:30 left · epoch 1.2 · loss 0.432 · 2,560 tokens/s",
        "epoch 1 · train loss 0.5000, valid 0.6000 · label: accuracy 0.7500, macro_f1 0.7000 · 1:15",
    ]


def test_a_log_is_not_flooded(capsys):
    shown = LineDisplay()
    for _ in range(100):
        shown.step(INFO)
    assert capsys.readouterr().err == ""


class Kept(Tracker):
    def __init__(self) -> None:
        super().__init__()
        self.points: list[tuple[int, dict]] = []

    def scalars(self, values, *, step):
        self.points.append((step, dict(values)))


def test_what_is_tracked():
    tracker = Kept()
    for _ in range(5):
        tracker.step(INFO)
    tracker.evaluation(ENTRY)
    assert tracker.points == [
        (50, {"train/loss": 0.4321, "train/lr": 1e-3, "train/tokens_per_second": 2560.4}),
        (9, {"train/mean_loss": 0.5, "valid/loss": 0.6, "valid/label/accuracy": 0.75, "valid/label/macro_f1": 0.7,
             "valid/label/ece": 0.1}),
    ]  # fmt: skip
    time.sleep(0)


def test_tensorboard_reads_what_a_run_wrote(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("POLYDETR_CACHE", str(tmp_path / "cache"))
    shown = Watched()
    train(tmp_path / "out", display=shown, settings={"track": "tensorboard"})
    (folder,) = (tmp_path / "out.runs").iterdir()
    events = EventAccumulator(str(folder))
    events.Reload()
    assert {"train/loss", "train/lr", "valid/loss", "valid/label/accuracy"} <= set(events.Tags()["scalars"])
    points = [(p.step, p.value) for p in events.Scalars("valid/loss")]
    assert points == [(e["step"], pytest.approx(e["valid_loss"], rel=1e-5)) for e in shown.entries]


@pytest.mark.parametrize(
    ("kind", "module"), [("tensorboard", "tensorboard.summary.writer.event_file_writer"), ("wandb", "wandb")]
)
def test_a_missing_tracker_is_a_configuration_error(tmp_path, monkeypatch, kind, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=f"track = '{kind}': {kind} is not installed.*pip install.*track: none"):
        make_tracker(kind, tmp_path, config={})


def test_wandb_stays_offline_unless_told(tmp_path, monkeypatch):
    started: dict = {}

    class Run:
        def log(self, values, step):
            started["logged"] = (dict(values), step)

        def finish(self):
            started["finished"] = True

    class Wandb:
        @staticmethod
        def init(**given):
            started.update(given)
            return Run()

    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setitem(sys.modules, "wandb", Wandb)  # type: ignore[arg-type]
    tracker = make_tracker("wandb", tmp_path / "runs", config={"seed": 3})
    tracker.scalars({"x": 1.0}, step=4)
    tracker.close()
    assert started["mode"] == "offline"
    assert started["config"] == {"seed": 3}
    assert started["logged"] == ({"x": 1.0}, 4)
    assert started["finished"]


def test_nothing_is_tracked_by_default(tmp_path):
    assert type(make_tracker("none", tmp_path / "runs", config={})) is Tracker
    assert not (tmp_path / "runs").exists()
