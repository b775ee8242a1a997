"""The half of each task that needs tensors: one file per task, found by name in ``core.plugs.HEADS``."""

from __future__ import annotations

from polydetr.core.plugs import HEADS
from polydetr.heads.base import EncoderShape, Head
from polydetr.tasks.base import Task


def build(task: Task, shape: EncoderShape, *, label_smoothing: float = 0.0) -> Head:
    """The head of a task that has learned from the rows, with random weights.

    Raises:
        ConfigError: no installed package has a head of this name.
    """
    return HEADS.find(task.kind).from_task(task, shape, label_smoothing=label_smoothing)
