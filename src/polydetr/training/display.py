"""Progress on standard error: a bar with the remaining time on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column

from polydetr.core.clock import format_seconds
from polydetr.errors import bounded, shown
from polydetr.training.callbacks import Display, StepInfo

LINE_SECONDS = 30.0
"""Without a terminal, seconds between two lines of progress."""


def make_display() -> Display:
    """The display that fits standard error."""
    return BarDisplay() if sys.stderr.isatty() else LineDisplay()


def describe_evaluation(entry: Mapping[str, Any]) -> str:
    """One line per evaluation: losses, and each target's first metrics."""
    losses = f"train loss {entry['train_loss']:.4f}, valid {entry['valid_loss']:.4f}"
    parts = [f"epoch {entry['epoch']:g}", losses]
    for target, metrics in entry["metrics"].items():
        figures = ", ".join(f"{name} {value:.4f}" for name, value in list(metrics.items())[:2])
        parts.append(f"{shown(target)}: {figures}")
    return " · ".join([*parts, format_seconds(entry["seconds"])])


def describe_step(info: StepInfo) -> str:
    """The text beside the bar; the remaining time first, because a narrow terminal cuts the end."""
    left = format_seconds(info.remaining_seconds)
    return f"{left} left · epoch {info.epoch:.1f} · loss {info.loss:.3f} · {info.pace}"


class LineDisplay(Display):
    """For logs: a line for every message and evaluation, and for the steps between them one in ``LINE_SECONDS``."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def note(self, message: str) -> None:
        print(bounded(message), file=sys.stderr, flush=True)

    def step(self, info: StepInfo) -> None:
        if time.monotonic() - self._last >= LINE_SECONDS:
            self.note(f"{info.progress:4.0%} · {describe_step(info)}")
            self._last = time.monotonic()

    def evaluation(self, entry: Mapping[str, Any]) -> None:
        self.note(describe_evaluation(entry))
        self._last = time.monotonic()


class BarDisplay(Display):
    """For a terminal: messages and evaluations scroll above a bar that shows remaining time, loss and speed."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        status = TextColumn("{task.fields[status]}", table_column=Column(no_wrap=True, overflow="ellipsis"))
        self.bar = Progress(
            BarColumn(bar_width=24), TextColumn("{task.percentage:3.0f} %"), status,
            console=self.console, transient=True, refresh_per_second=4,
        )  # fmt: skip
        self.task: TaskID | None = None

    def note(self, message: str) -> None:
        # Messages hold file names and labels, which may look like markup.
        self.console.print(f"• {bounded(message)}", style="dim", highlight=False, markup=False, soft_wrap=True)

    def step(self, info: StepInfo) -> None:
        if self.task is None:
            self.bar.start()
            self.task = self.bar.add_task("training", total=1.0, status="")
        self.bar.update(self.task, completed=info.progress, status=describe_step(info))

    def evaluation(self, entry: Mapping[str, Any]) -> None:
        self.console.print(describe_evaluation(entry), highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        self.bar.stop()
