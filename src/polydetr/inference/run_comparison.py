"""Runs side by side: the settings that differ, from the defaults or among each other, scores and curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polydetr.config.loading import PRESETS, for_tasks, load_config
from polydetr.errors import ConfigError
from polydetr.inference.saved_run import SavedRun

UNSET = object()
"""In place of a value, where a run or the defaults have none."""
_WHOLE = ("target", "inputs")
"""Keys whose mappings are one value."""
_NOT_SETTINGS = {"train", "valid", "test", "unlabelled", "out", "target", "inputs", "preset", "epochs", "steps"}
_MOST_POINTS = 20


def settings_of(run: SavedRun) -> dict[str, Any]:
    """Dotted key → value of the whole configuration that the run recorded."""
    return _flat(run.found("config", kind=dict) or {})


def _flat(section: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in section.items():
        part = f'"{name}"' if "." in str(name) else str(name)
        key = f"{place}.{part}" if place else part
        if isinstance(value, Mapping) and not (not place and name in _WHOLE):
            found |= _flat(value, key)
        else:
            found[key] = value
    return found


def changed_settings(run: SavedRun) -> dict[str, tuple[Any, Any]]:
    """Dotted key → (the run's value, the default), of the settings that differ from what the run would have had if
    nothing but its preset and its epochs had been said. What follows from these two is not told again.
    """
    own = settings_of(run)
    if not own:
        return {}
    name = str(own.get("preset"))
    preset = PRESETS.get(name, PRESETS["balanced"])
    given = own.get("epochs") != preset["epochs"] or own.get("steps") is None
    default = _defaults(name if name in PRESETS else None, own.get("epochs") if given else None, run.targets.values())
    found = {
        key: (value, default.get(key, UNSET))
        for key, value in own.items()
        if key.partition(".")[0] not in _NOT_SETTINGS and value != default.get(key, UNSET)
    }
    if given:
        found = {"epochs": (own.get("epochs"), preset["epochs"])} | found
    elif own.get("steps") != preset["steps"]:
        found = {"steps": (own.get("steps"), preset["steps"])} | found
    return ({"preset": (name, "balanced")} if name != "balanced" else {}) | found


def _defaults(preset: str | None, epochs: Any, tasks: Any) -> dict[str, Any]:
    given = {key: value for key, value in (("preset", preset), ("epochs", epochs)) if value is not None}
    try:
        config = load_config(given)
    except ConfigError:  # recorded by a version whose bounds were others
        config = load_config()
    return _flat(for_tasks(config, tasks).model_dump())


def differing_settings(runs: Sequence[SavedRun]) -> dict[str, list[Any]]:
    """Dotted key → each run's value, of the settings that are not the same in all; ``UNSET`` where a run has none."""
    every = [settings_of(run) for run in runs]
    keys = dict.fromkeys(key for one in every for key in one if key != "out")
    values = {key: [one.get(key, UNSET) for one in every] for key in keys}
    return {key: found for key, found in values.items() if any(value != found[0] for value in found[1:])}


def scores_beside(runs: Sequence[SavedRun]) -> dict[tuple[str, str, str], list[float | None]]:
    """(split, target, metric) → each run's value; test rows first, as nothing was chosen by them."""
    every = [run.metrics for run in runs]
    splits = sorted({split for one in every for split in one}, key=lambda split: (split != "test", split))
    return {
        (split, target, metric): [one.get(split, {}).get(target, {}).get(metric) for one in every]
        for split in splits
        for target in dict.fromkeys(t for one in every for t in one.get(split, {}))
        for metric in dict.fromkeys(m for one in every for m in one.get(split, {}).get(target, {}))
    }


def curves_beside(runs: Sequence[SavedRun]) -> dict[int, list[float | None]]:
    """Step → each run's score as it stood then; None before a run's first evaluation and after its last. Of many steps
    about twenty, evenly taken, the last of each run among them.
    """
    curves = [run.curve for run in runs]
    steps = sorted({step for curve in curves for step, _ in curve})
    if len(steps) > _MOST_POINTS:
        kept = {steps[round(i * (len(steps) - 1) / (_MOST_POINTS - 1))] for i in range(_MOST_POINTS)}
        steps = sorted(kept | {curve[-1][0] for curve in curves if curve})
    return {step: [_standing(curve, step) for curve in curves] for step in steps}


def _standing(curve: Sequence[tuple[int, float]], step: int) -> float | None:
    if not curve or step > curve[-1][0]:
        return None
    return next((score for at, score in reversed(curve) if at <= step), None)


def is_like(runs: Sequence[SavedRun]) -> bool:
    """Whether all of them predict the same targets by the same first metrics, so that scores can be compared."""
    return len({tuple((target, metric) for target, metric, _ in run.first_metrics("valid")) for run in runs}) <= 1
