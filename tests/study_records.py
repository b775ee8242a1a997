"""Studies put together by hand, for what reports them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from polydetr.core.studies import Gain, StudyRecord, TrialRecord

SPACE: list[Mapping[str, Any]] = [
    {"key": "training.lr", "kind": "range", "low": 1e-5, "high": 1e-3, "log": True},
    {"key": "training.schedule", "kind": "choice", "values": ["linear", "cosine"]},
    {
        "key": 'tasks."净.价".loss_weight',
        "kind": "range",
        "low": 0.5,
        "high": 2.0,
        "log": False,
        "step": 0.5,
        "when": {"training.schedule": ["cosine"]},
    },
]
WEIGHT = str(SPACE[2]["key"])
GAIN = Gain(difference=0.0312, low=0.0101, high=0.0523, rows=488, share_better=0.97)


def trial(number: int, score: float | None = None, **settings: Any) -> TrialRecord:
    """A completed one."""
    curve = [] if score is None else [(10, score - 0.1), (20, score)]
    metrics = {} if score is None else {"标签": {"accuracy": score, "macro_f1": score - 0.02}}
    return TrialRecord(number, settings, "complete", score, metrics, curve, 20, 12.5)


def study(*more: TrialRecord, **changed: Any) -> StudyRecord:
    """The default and three others: the best, one that was pruned, one that failed."""
    lr, schedule = "training.lr", "training.schedule"
    trials = [
        trial(0, 0.80),
        trial(1, 0.84, **{lr: 2e-4, schedule: "cosine", WEIGHT: 1.5}),
        replace(trial(2, None, **{lr: 9e-4, schedule: "linear"}), state="pruned", curve=[(10, 0.4)], steps=10,
                reason="below the median"),
        replace(trial(3, None, **{lr: 1e-5}), state="failed", steps=0, reason="out of memory"),
        trial(4, 0.82, **{lr: 3e-5, schedule: "linear"}),
        *more,
    ]  # fmt: skip
    importances = {lr: 0.7, schedule: 0.2, WEIGHT: 0.1}
    record = StudyRecord(
        "reviews", "标签 accuracy", trials, SPACE, importances, best=1, kept=1, gain=GAIN, cross_validated=False,
        rows={"train": 900, "choose": 50, "proof": 488}, seed=7, seconds=61.0,
    )  # fmt: skip
    return replace(record, **changed)
