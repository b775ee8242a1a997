"""What a study found, in words: whether anything was gained, the settings to write down, and names of its trials."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from polydetr.config.loading import parse_settings
from polydetr.core.files import json_text
from polydetr.core.studies import Gain, StudyRecord, TrialRecord
from polydetr.errors import ConfigError, shown


@dataclass(frozen=True)
class Verdict:
    """gained: "yes", "no", or "unknown" where it was not measured. head: the answer; text: what it rests on."""

    gained: Literal["yes", "no", "unknown"]
    head: str
    text: str


def verdict(record: StudyRecord) -> Verdict:
    """Whether the study was worth it, to be read first."""
    trials = {trial.number: trial for trial in record.trials}
    best, default = trials.get(record.best), trials.get(0)
    if not any(trial.state == "complete" for trial in record.trials):
        return Verdict("no", "No trial was completed, so nothing can be said.", _failures(record.trials))
    if record.best == 0 or best is None:
        return Verdict("no", "Nothing was gained: the default is kept.", _best_is_default(record))
    name, chosen = f"trial {best.number}", _while_choosing(record, best, default)
    if record.gain is None:
        if record.kept:
            return Verdict("unknown", f"{name.capitalize()} is kept; how much it gains was not measured.", chosen)
        return Verdict("unknown", f"The default is kept: whether {name} gains anything was not measured.", chosen)
    measured = _measured(record.gain, record.metric)
    if record.kept:
        head = f"{name.capitalize()} gains {_signed(record.gain.difference)} {shown(record.metric, 60)}, and is kept."
        return Verdict("yes", head, f"{measured} {chosen}")
    return Verdict("no", "Nothing was gained that can be relied on: the default is kept.", f"{measured} {chosen}")


def _best_is_default(record: StudyRecord) -> str:
    others = [trial for trial in record.trials if trial.number and trial.state == "complete"]
    if not others:
        return f"No trial but the default was completed. {_failures(record.trials)}".strip()
    highest = min(others, key=rank)
    default = next((trial for trial in record.trials if trial.number == 0), None)
    said = f" against {_scored(default)}" if default is not None else ""
    return (
        f"None of {len(others)} other completed trials did better; the nearest is trial {highest.number}, "
        f"{_scored(highest)}{said} ({shown(record.metric, 60)})."
    )


def _measured(gain: Gain, metric: str) -> str:
    return (
        f"On {gain.rows:,} rows that chose nothing, the difference in {shown(metric, 60)} is "
        f"{_signed(gain.difference)}, with a 90 % interval from {_signed(gain.low)} to {_signed(gain.high)}; it is "
        f"better in {100 * gain.share_better:.0f} % of the resamples of these rows (from 95 % on it is kept)."
    )


def _while_choosing(record: StudyRecord, best: TrialRecord, default: TrialRecord | None) -> str:
    against = "" if default is None or score_of(default) is None else f" against the default's {_scored(default)}"
    how = " As the rows are few, every trial is cross-validated." if record.cross_validated else ""
    return (
        f"Among the rows that chose it, it scored {_scored(best)}{against}, which flatters it: the best of many "
        f"is partly luck.{how}"
    )


def _failures(trials: Sequence[TrialRecord]) -> str:
    reasons = failure_reasons(trials)
    return "; ".join(f"{count} failed: {reason}" for reason, count in reasons.most_common(3)) + "." * bool(reasons)


def failure_reasons(trials: Sequence[TrialRecord]) -> Counter[str]:
    """Reason → how many trials failed for it."""
    return Counter(shown(trial.reason, 200) or "no reason was recorded" for trial in trials if trial.state == "failed")


def settings_yaml(settings: Mapping[str, Any]) -> str:
    """Dotted keys and their values as the YAML to write into a configuration; "" where there are none. A key that has
    another form than those of ``--set`` stays as it is.
    """
    try:
        nested = parse_settings([f"{key}={json_text(value)}" for key, value in settings.items()])
    except ConfigError:
        nested = dict(settings)
    return yaml.safe_dump(nested, sort_keys=False, allow_unicode=True) if nested else ""


def state_counts(trials: Sequence[TrialRecord]) -> str:
    """ "31 trials: 20 complete, 9 pruned, 2 failed"."""
    counts = Counter(trial.state for trial in trials)
    states = ("complete", "pruned", "failed", "running")
    parts = ", ".join(f"{counts[state]:,} {state}" for state in states if counts[state])
    return f"{len(trials):,} trial{'s' * (len(trials) != 1)}" + f": {parts}" * bool(parts)


def trial_name(trial: TrialRecord) -> str:
    return "default" if trial.number == 0 else f"trial {trial.number}"


def value_text(value: Any) -> str:
    """A setting's value, as a person writes it."""
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.4g}"
    return shown(value if isinstance(value, str) else json_text(value), 40)


def duration_text(seconds: float) -> str:
    """ "48 s", "12 min", "3 h 5 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def score_of(trial: TrialRecord) -> float | None:
    """Its score, where that is a number."""
    return trial.score if trial.score is not None and math.isfinite(trial.score) else None


def rank(trial: TrialRecord) -> float:
    """What trials are sorted by, the highest first; those without a score are last."""
    score = score_of(trial)
    return math.inf if score is None else -score


def _scored(trial: TrialRecord) -> str:
    score = score_of(trial)
    return "nothing" if score is None else f"{score:.4f}"


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")
