"""What came of a trial, as a database keeps it and as reports read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from polydetr.core.studies import TrialRecord

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from polydetr.training.trials import TrialResult

SETTINGS, RESULT, _SHARES = "settings", "result", "shares"
"""Attributes of a trial."""


def curves_of(trials: Sequence[FrozenTrial]) -> list[dict[int, float]]:
    """Percent of the run → score, of each trial that ran to its end."""
    ended = [trial.user_attrs[RESULT][_SHARES] for trial in trials if trial.state.name == "COMPLETE"]
    return [{int(share): float(score) for share, score in curve} for curve in ended]


def kept_result(result: TrialResult, curve: Mapping[int, float]) -> dict[str, Any]:
    """As a database keeps it. curve: percent of the run → score."""
    return {
        _SHARES: sorted(curve.items()),
        "metrics": {target: dict(metrics) for target, metrics in result.metrics.items()},
        "curve": [list(point) for point in result.curve],
        "steps": result.steps,
        "seconds": result.seconds,
    }


def record_of(trial: FrozenTrial) -> TrialRecord:
    """As reports read it."""
    result = trial.user_attrs.get(RESULT, {}) if trial.state.is_finished() else {}
    state = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}.get(trial.state.name, "running")
    return TrialRecord(
        number=trial.number,
        settings=trial.user_attrs.get(SETTINGS, {}),
        state=state,  # type: ignore[arg-type]
        score=trial.value if state == "complete" else None,
        metrics=result.get("metrics", {}),
        curve=[(int(step), float(score)) for step, score in result.get("curve", ())],
        steps=int(result.get("steps", 0)),
        seconds=float(result.get("seconds", 0.0)),
        reason=str(result.get("reason", "")),
    )
