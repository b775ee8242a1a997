"""Progress on standard error: a bar with the remaining time on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from polydetr.training.fit import Display
from polydetr.training.loop import StepInfo


def make_display() -> Display:
    """The display that fits standard error."""
    return BarDisplay() if sys.stderr.isatty() else LineDisplay()


def format_seconds(seconds: float) -> str:
    """75 → 1:15."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def describe_evaluation(entry: Mapping[str, Any]) -> str:
    """One line for one evaluation: losses, and each target's first metrics."""
    parts = [f"epoch {entry['epoch']:g}", f"train loss {entry['train_loss']:.4f}", f"valid loss {entry['valid_loss']:.4f}"]
    for target, metrics in entry["metrics"].items():
        shown = ", ".join(f"{name} {value:.4f}" for name, value in list(metrics.items())[:2])
        parts.append(f"{target}: {shown}")
    return " · ".join([*parts, format_seconds(entry["seconds"])])


class LineDisplay(Display):
    """For logs: a line for every note and evaluation."""

    def note(self, message: str) -> None:
        print(message, file=sys.stderr, flush=True)

    def evaluation(self, entry: Mapping[str, Any]) -> None:
        print(describe_evaluation(entry), file=sys.stderr, flush=True)


class BarDisplay(Display):
    """For a terminal: notes and evaluations scroll above a bar that tells loss, speed and remaining time."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bar = Progress(
            SpinnerColumn(), TextColumn("training"), BarColumn(), TextColumn("{task.percentage:3.0f} %"), TextColumn("{task.fields[status]}"),
            console=self.console, transient=True,
        )  # fmt: skip
        self.task = None

    def note(self, message: str) -> None:
        self.console.print(f"[dim]•[/dim] {message}", highlight=False, markup=True)

    def step(self, info: StepInfo) -> None:
        if self.task is None:
            self.bar.start()
            self.task = self.bar.add_task("training", total=1.0, status="")
        status = f"epoch {info.epoch:.1f} · loss {info.loss:.3f} · {info.tokens_per_second:,.0f} tokens/s · {format_seconds(info.remaining_seconds)} left"
        self.bar.update(self.task, completed=info.progress, status=status)

    def evaluation(self, entry: Mapping[str, Any]) -> None:
        self.console.print(describe_evaluation(entry), highlight=False, markup=False)

    def close(self) -> None:
        self.bar.stop()
