"""What answers: one file per task, found by name in ``core.plugs.HEADS``."""

from __future__ import annotations

from polydetr.core.plugs import HEADS
from polydetr.heads.base import EncoderShape, Head
from polydetr.tasks.base import Task


def build(task: Task, shape: EncoderShape, *, label_smoothing: float = 0.0) -> Head:
    """The head of a task that has learned from the rows, with random weights; ConfigError where there is none."""
    return HEADS.find(task.kind).from_task(task, shape, label_smoothing=label_smoothing)
