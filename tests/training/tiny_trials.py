"""Studies small enough that a trial takes a fraction of a second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiny_runs import TINY, film_rows

from polydetr.config.loading import load_config, merge
from polydetr.training.callbacks import Display
from polydetr.training.read import read_splits
from polydetr.training.trials import SharedRows

_VALID = film_rows(44, start=100)
NONE_HELD_OUT = {"train": film_rows(60), "valid": _VALID[::2] + _VALID[1::2]}
"""Validation rows of their own, of which every second one chooses: one class after the other."""


def study(
    rows: Mapping[str, Any] | None = None, notes: list[str] | None = None, *, target: str = "label",
    task: str | None = None, draws: bool = False, **given: Any,
) -> SharedRows:  # fmt: skip
    """The shared rows of a study; ``given`` is laid over tiny settings. draws: the figures of the best trials, too."""
    parts = {"valid": None, "test": None, **(NONE_HELD_OUT if rows is None else rows)}
    settings = merge(merge(TINY, {"backbone": "none", "epochs": 2}), given)
    config = load_config(settings, target={target: task})
    splits, schema = read_splits(config, **parts, display=Display())
    shared = SharedRows(config, schema, splits, notify=(notes if notes is not None else []).append)
    if not draws:  # they take longer than the training
        shared.is_best = lambda score: False  # type: ignore[method-assign]
    return shared
