"""Which task is explained: the one that is named, or the first that can be."""

from __future__ import annotations

from collections.abc import Mapping

from polydetr.core.plugs import HEADS
from polydetr.errors import InputError, did_you_mean
from polydetr.heads.explained import Explains
from polydetr.tasks.base import Task


def explainer_of(task: Task) -> Explains | None:
    """What says which of its answers is explained, and how; None where nothing does."""
    head = HEADS[task.kind]
    return head if isinstance(head, Explains) else None


def chosen_task(tasks: Mapping[str, Task], target: str | None) -> tuple[Task, Explains]:
    """The task of ``target``; when it is not given, the first that can be explained.

    Raises:
        InputError: there is no such target, or its task has no explanation.
    """
    if target is None:
        target = next((name for name, task in tasks.items() if explainer_of(task)), next(iter(tasks)))
    if target not in tasks:
        raise InputError(f"the model has no target {target!r}. {did_you_mean(target, tasks)}")
    task = tasks[target]
    explainer = explainer_of(task)
    if explainer is None:
        kinds = ", ".join(kind for kind, head in HEADS.items() if isinstance(head, Explains))
        raise InputError(
            f"target {target!r} cannot be explained: the task {task.kind!r} has no explanation",
            hint=f"Explained are {kinds}.",
        )
    return task, explainer
