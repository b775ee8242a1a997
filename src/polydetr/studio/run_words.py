"""What the pages say of a run: plain functions of ``inference.saved_run``, without a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from polydetr.errors import shown
from polydetr.inference.run_comparison import UNSET, changed_settings
from polydetr.inference.saved_run import SavedRun
from polydetr.reports.tuning_words import value_text

MOST_COMPARED = 6


def first_score(run: SavedRun) -> tuple[str, float, str] | None:
    """(metric, value, split) that stands for a run: of the test rows where there are any; None where it has none."""
    if run.study is not None:
        best = next((trial for trial in run.study.trials if trial.number == run.study.best), None)
        return None if best is None or best.score is None else (run.study.metric, best.score, "valid")
    for split in ("test", "valid"):
        for _, metric, value in run.first_metrics(split):
            return metric, value, split
    return None


def differing(run: SavedRun, most: int = 3) -> str:
    """The settings of a run that are not the usual ones, in a line."""
    changed = list(changed_settings(run).items())
    said = [f"{shown(key, 40)} {said_value(value)}" for key, (value, _) in changed[:most]]
    return ", ".join(said) + (", …" if len(changed) > most else "")


def said_value(value: Any) -> str:
    """A setting as it is written."""
    return "–" if value is UNSET else shown(value_text(value), 60)


def seconds_left(progress: Mapping[str, Any]) -> float | None:
    """What a run under way says of the time that is left; None where it does not know yet."""
    left = progress.get("remaining_seconds")
    return float(left) if isinstance(left, int | float) and math.isfinite(left) and left >= 0 else None


def share_done(progress: Mapping[str, Any]) -> float:
    """0 … 1."""
    done = progress.get("progress")
    return min(1.0, max(0.0, float(done))) if isinstance(done, int | float) and done == done else 0.0


def unique_names(runs: Sequence[SavedRun]) -> list[str]:
    """A name for each in one chart: two runs may be called alike in different folders."""
    seen: dict[str, int] = {}
    names = []
    for run in runs:
        seen[run.name] = seen.get(run.name, 0) + 1
        names.append(run.name if seen[run.name] == 1 else f"{run.name} ({seen[run.name]})")
    return names
