"""What a study of settings found: its trials, what mattered, and whether the best is better than saying nothing.

``tuning`` makes a ``StudyRecord``; ``reports.tuning_page`` writes it down. Neither knows the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

RECORD_FILE = "study.json"
"""Where a study's record is kept, in its folder."""
State = Literal["complete", "pruned", "failed", "running"]


@dataclass(frozen=True)
class TrialRecord:
    """One training of a study.

    number: 0 is the default, for which nothing was changed. settings: dotted key → value, only what the trial varied;
    {} for the default. score: mean of the targets' first metrics on the choosing validation rows, the higher the better
    (as the loop's early stopping compares); None where none was reached. metrics: of the same rows, by target.
    curve: (optimizer step, score) of each evaluation. seconds: of the whole trial. reason: why it failed or was pruned.
    """

    number: int
    settings: Mapping[str, Any]
    state: State
    score: float | None
    metrics: Mapping[str, Mapping[str, float]]
    curve: Sequence[tuple[int, float]]
    steps: int
    seconds: float
    reason: str = ""


@dataclass(frozen=True)
class Gain:
    """The best trial against the default on ``rows`` rows that chose nothing: a paired bootstrap over rows.

    difference: of the score, best minus default; low, high: its 90 % interval. share_better: of the resamples in which
    the best is better, 0 … 1.
    """

    difference: float
    low: float
    high: float
    rows: int
    share_better: float


@dataclass(frozen=True)
class StudyRecord:
    """A whole study, as it is reported.

    metric: what ``score`` is: "label accuracy", or "mean of ..." for several targets. space: per dimension {"key",
    "kind": "choice" or "range", "values" or "low", "high", "log" and "step", and "when": key → the values for which
    alone it is varied}. importances: key → share of the scores' variance that it explains; {} where there are too few
    trials. best, kept: numbers of trials; ``kept`` is the one that was saved, 0 where nothing was gained. gain: None
    where it was not measured. cross_validated: each trial is, as rows are few. rows: what → how many ("train", ...).
    seconds: of the whole study.
    """

    name: str
    metric: str
    trials: Sequence[TrialRecord]
    space: Sequence[Mapping[str, Any]]
    importances: Mapping[str, float]
    best: int
    kept: int
    gain: Gain | None
    cross_validated: bool
    rows: Mapping[str, int]
    seed: int
    seconds: float
