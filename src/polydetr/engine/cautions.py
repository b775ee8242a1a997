"""What a careful colleague would say of a score: that it is no better than answering without looking at the row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from polydetr.core.predictions import Baseline, Evaluation
from polydetr.errors import quoted
from polydetr.tasks.base import Task
from polydetr.tasks.capabilities import HasBaseline

LEAST_ROWS = 20
"""With fewer rows chance decides which is better."""


def baseline_data(task: Task, golds: Sequence[Any]) -> dict[str, Any]:
    """{"baseline": {"metric", "value", "answer"}} for ``Evaluation.data``, where the task has one and the rows suffice.

    golds: one per row; None where it has no label.
    """
    known = [gold for gold in golds if gold is not None]
    if len(known) < LEAST_ROWS or not isinstance(task, HasBaseline):
        return {}
    baseline = task.baseline(known)
    return {} if baseline is None else {"baseline": asdict(baseline)}


def score_warnings(task: Task, evaluation: Evaluation, *, where: str) -> list[str]:
    """A sentence where nothing useful was learned: the score is no better than the baseline's on the same rows. where:
    "the test rows".
    """
    known = evaluation.data.get("baseline")
    if known is None:
        return []
    base = Baseline(**known)
    value = evaluation.metrics.get(base.metric)
    if value is None or not (value >= base.value if base.lower_is_better else value <= base.value):
        return []
    if base.answer is None:
        return [
            f"{quoted(task.target)}: {base.metric} is {value:.4g} on {where}: nothing was found of what is marked there"
        ]
    always = "the mean" if base.lower_is_better else "the most frequent"
    return [
        f"{quoted(task.target)}: {base.metric} {value:.4g} on {where} is no better than {base.value:.4g}, which always "
        f"answering {always} ({_shown(base.answer)}) reaches there: nothing that helps was learned (too few rows or "
        "steps, or inputs that do not tell)"
    ]


def _shown(answer: Any) -> str:
    return f"{answer:.4g}" if isinstance(answer, float) else quoted(answer, 40)
