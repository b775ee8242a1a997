"""What a run shows while it works: a bar in a terminal, lines elsewhere."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys

from rich.console import Console

from polydetr.core.clock import format_seconds
from polydetr.training import display
from polydetr.training.callbacks import StepInfo
from polydetr.training.display import BarDisplay, LineDisplay, describe_step

INFO = StepInfo(0.25, 50, 1.2, 0.4321, 2560.4, "2,560 tokens/s", 90.0, 1e-3)
ENTRY = {"step": 9, "epoch": 1.0, "seconds": 75.0, "train_loss": 0.5, "valid_loss": 0.6,
         "metrics": {"label": {"accuracy": 0.75, "macro_f1": 0.7, "ece": 0.1}}}  # fmt: skip

IN_TERMINAL = """
from polydetr.training.display import make_display
from polydetr.training.callbacks import StepInfo
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
