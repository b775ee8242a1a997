"""One run as its folder tells it: scores, settings, steps, time, and the curve of its evaluations. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from polydetr.core.studies import StudyRecord

RunState = Literal["finished", "running", "stopped", "failed", "damaged", "study"]
"""stopped: its checkpoint can be gone on with; failed: it left nothing to go on with; study: see ``SavedRun.study``."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class SavedRun:
    """One run. info: its description as it was saved, of unknown form: see ``found``; history: its evaluations.
    reason: what is wrong, or what a study says of itself. progress: of one under way, how far it has got
    (``training.progress_file``).
    """

    name: str
    folder: Path
    state: RunState
    info: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    reason: str = ""
    changed: float = 0.0
    study: StudyRecord | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)

    def found(self, *path: str, kind: type[_T]) -> _T | None:
        """What stands at ``path`` of its description; None where there is nothing of that kind."""
        value: Any = self.info
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value if isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool) else None

    @property
    def created(self) -> str:
        """Date and time in the reader's zone; of a run that does not say, when its folder was last changed."""
        with suppress(ValueError, TypeError, OverflowError, OSError):
            when = datetime.fromisoformat(str(self.info["created"])) if "created" in self.info else None
            when = when or datetime.fromtimestamp(self.changed, UTC)
            return f"{when.astimezone():%Y-%m-%d %H:%M}"
        return ""

    @property
    def targets(self) -> dict[str, str]:
        """Target → its task."""
        if self.study is not None:
            return {target: "" for trial in self.study.trials for target in trial.metrics}
        listed = self.found("schema", "targets", kind=list) or []
        return {str(one.get("name")): str(one.get("task", "")) for one in listed if isinstance(one, Mapping)}

    @property
    def metrics(self) -> dict[str, dict[str, dict[str, float]]]:
        """Split → target → metric → value, numbers alone; of an interrupted run, those of its best evaluation."""
        splits = self.found("metrics", kind=dict) or {}
        if not splits and self.history:
            best = max(self.history, key=lambda entry: score_of(entry) or float("-inf"))
            splits = {"valid": best.get("metrics")}
        return {
            str(split): {str(t): numbers_in(values) for t, values in by.items() if numbers_in(values)}
            for split, by in splits.items()
            if isinstance(by, Mapping)
        }

    def first_metrics(self, split: str) -> list[tuple[str, str, float]]:
        """(target, metric, value) of each target's first metric."""
        return [(target, *next(iter(values.items()))) for target, values in self.metrics.get(split, {}).items()]

    @property
    def steps(self) -> int | None:
        if self.study is not None:
            return sum(trial.steps for trial in self.study.trials)
        if (steps := self.found("training", "steps", kind=int)) is not None:
            return steps
        last = self.history[-1].get("step") if self.history else None
        return last if isinstance(last, int) else None

    @property
    def seconds(self) -> float | None:
        """Of the whole run; of an interrupted one, those that its checkpoint knows of."""
        if self.study is not None:
            return self.study.seconds
        for key in ("total_seconds", "seconds"):
            for kind in (float, int):
                if (value := self.found("training", key, kind=kind)) is not None:
                    return float(value)
        return None

    @property
    def curve(self) -> list[tuple[int, float]]:
        """(step, score) of each evaluation."""
        found = ((entry.get("step"), score_of(entry)) for entry in self.history)
        return [(step, score) for step, score in found if isinstance(step, int) and score is not None]


def score_of(entry: Mapping[str, Any]) -> float | None:
    """What early stopping compares, the higher the better; older runs keep the targets' metrics alone."""
    score = entry.get("score")
    if isinstance(score, int | float):
        return float(score) if score == score else None
    by_target = entry.get("metrics")
    by_target = by_target if isinstance(by_target, Mapping) else {}
    firsts = [next(iter(numbers.values())) for values in by_target.values() if (numbers := numbers_in(values))]
    return sum(firsts) / len(firsts) if firsts else None


def numbers_in(values: Any) -> dict[str, float]:
    """The metrics of a mapping that a file brings: what is no number is left out."""
    if not isinstance(values, Mapping):
        return {}
    return {
        str(k): float(v) for k, v in values.items()
        if isinstance(v, int | float) and not isinstance(v, bool) and v == v
    }  # fmt: skip
