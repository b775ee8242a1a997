"""Studies whose trials take no time: the score is a formula of the settings, and what would be a model is a file."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from polydetr.config.loading import load_config
from polydetr.config.sections import Config
from polydetr.core.databases import read_address
from polydetr.inference.folder import MANIFEST
from polydetr.training.callbacks import Display
from polydetr.training.trials import TrialResult
from polydetr.tuning.reading import read_space
from polydetr.tuning.study import KeptStudy, Studies
from polydetr.tuning.times import Times
from polydetr.tuning.work import Wanted, Work

SEARCH: dict[str, Any] = {
    "training": {
        "head_lr": {"low": 1e-5, "high": 1e-1, "log": True},
        "freeze_backbones": [False, True],
        "lora.rank": {"low": 0, "high": 16, "step": 8, "when": {"training.freeze_backbones": False}},
    },
    "model": {"dropout": [0.0, 0.1, 0.3]},
}
CONFIG = load_config({"search": SEARCH, "backbone": "none"})
OPENED: list[Studies] = []
"""Closed after each test."""
IDENTITY: dict[str, Any] = {"config": {"model": {"num_heads": 8}}, "schema": {}, "rows": "these", "seed": 0}


def open_study(
    address: str | Path, *, name: str = "films", config: Config = CONFIG, identity: Mapping[str, Any] = IDENTITY,
) -> KeptStudy:  # fmt: skip
    space = read_space(config.search, config)
    OPENED.append(Studies(read_address(str(address))))
    return OPENED[-1].open(name, space, {**identity, "space": space.to_list()}, reading={})


def score_of(settings: Mapping[str, Any]) -> float:
    """1 at a learning rate of 1e-3 without dropout, less with every power of ten away from it."""
    away = abs(math.log10(settings.get("training.head_lr", 1e-2) / 1e-3))
    return 1.0 / (1.0 + away + settings.get("model.dropout", 0.1))


class Rows:
    """In place of ``SharedRows``: the best settings are a learning rate of 1e-3 without dropout. at: is called with the
    number of the evaluation, before it; log: gets a line per trial that was begun, with the process and the settings.
    """

    def __init__(self, *, log: Path | None = None, at: Callable[[int], None] = lambda number: None) -> None:
        self.log, self.at, self.trained = log, at, []

    def train(
        self, settings: Mapping[str, Any], *, out: Path,
        on_evaluation: Callable[[Mapping[str, Any]], bool] = lambda entry: False,
        seconds: float | None = None, display: Display | None = None, group: str | None = None,
    ) -> TrialResult:  # fmt: skip
        self.trained.append((dict(settings), seconds))
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{os.getpid()} {out.name} {sorted(settings.items())}\n")
        began = time.monotonic()
        final = score_of(settings)
        curve = []
        for step in range(1, 5):
            self.at(step)
            curve.append((step, final * step / 4))
            if on_evaluation({"step": step, "progress": step / 4, "score": curve[-1][1]}):
                return TrialResult(curve[-1][1], {}, curve, step, time.monotonic() - began, True)
        out.mkdir(parents=True)
        (out / MANIFEST).write_text(f"{final}")
        return TrialResult(final, {"label": {"accuracy": final}}, curve, 4, time.monotonic() - began, False)

    def seconds_to_compare(self) -> float:
        return 0.0


class Notes(Display):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def work_on(
    study: KeptStudy, folder: Path, *, trials: int | None = 12, rows: Any = None, limit: float | None = None,
    keep: int = 3, display: Display | None = None,
) -> Work:  # fmt: skip
    times = Times(limit, time.monotonic())
    return Work(study, rows or Rows(), Wanted(trials, keep), times, folder, display or Notes())


def summary(study: KeptStudy) -> list[tuple[Any, ...]]:
    """What must be the same whether or not a study was interrupted."""
    return [(r.number, dict(r.settings), r.state, r.score, list(r.curve), r.reason) for r in study.records()]
