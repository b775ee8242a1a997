"""What a run on few rows tells, counts and keeps while it works (``few_rows``)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from polydetr.errors import Interrupted
from polydetr.training.callbacks import Display, StepInfo
from polydetr.training.checkpoint import Checkpoints, Progress
from polydetr.training.contrastive import Step
from polydetr.training.linear_head import Array, Features
from polydetr.training.loop import CHECKPOINT_SECONDS
from polydetr.training.signals import StopRequest

Tried = dict[int, list[Features]]
"""Epochs → the features that the backbone computes after so many, of each fold that is done."""


class Clock:
    """Seconds of the machine's cores, which other programs do not make longer; of the clock on the wall where a time
    limit leaves ``left`` of them.
    """

    def __init__(self, most: float, left: float | None) -> None:
        self.limit = most if left is None else min(most, left)
        self._by_wall = left is not None
        self.of_a_pass = 0.0
        self._first = self._now()
        self.start()

    def start(self) -> None:
        self._began = self._now()

    def took_a_pass(self) -> None:
        """What was timed since the start is one forward pass over all rows."""
        self.of_a_pass = self.seconds

    @property
    def seconds(self) -> float:
        return self._now() - self._began

    @property
    def in_all(self) -> float:
        return self._now() - self._first

    def _now(self) -> float:
        return time.monotonic() if self._by_wall else time.process_time() / torch.get_num_threads()


class Watch:
    """Display, clock, and the checkpoint of the folds that are done, from which a run that was stopped goes on.

    header: kept with the checkpoint; ``header["fingerprint"]`` identifies the run. resume: whether to begin with
    ``kept`` and ``folds`` (into how many the rows are dealt) of an earlier call, or to have what ``ended`` it.
    """

    def __init__(
        self, display: Display, clock: Clock, stop: StopRequest, *, checkpoints: Checkpoints,
        header: Mapping[str, Any], resume: bool,
    ) -> None:  # fmt: skip
        self.display, self.clock, self.progress = display, clock, Progress()
        self.kept: Tried = {}
        self.folds: int | None = None
        self.logits: Array | None = None
        self._stop, self._checkpoints, self._header = stop, checkpoints, dict(header)
        if resume:
            self.progress, ended, tensors = checkpoints.load_last(self._header["fingerprint"])
            self.folds, self.kept = checkpoints.header()["folds"], _features(tensors)
            self.logits = ended["logits"].numpy() if self.progress.finished else None
        self._done = replace(self.progress)
        self._started = self._saved = time.monotonic()
        self._started -= self.progress.seconds

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def check(self) -> None:
        """Raises KeyboardInterrupt where the run was asked to stop."""
        if self._stop.wanted:
            raise KeyboardInterrupt

    def step(self, step: Step, *, began: float) -> None:
        """Counts and tells a step, which began at ``time.monotonic() == began``."""
        state, clock = self.progress, self.clock
        state.step, state.tokens = state.step + 1, state.tokens + step.tokens
        state.step_seconds += time.monotonic() - began
        state.seconds = self.seconds
        speed, spent = state.tokens / max(state.step_seconds, 1e-9), clock.in_all
        self.display.step(
            StepInfo(
                min(0.99, spent / max(clock.limit, 1e-9)), state.step, step.epoch, step.loss, speed,
                f"{speed:,.0f} tokens/s", max(0.0, clock.limit - spent), step.learning_rate,
            )
        )  # fmt: skip
        self.check()

    def evaluation(self, entry: dict[str, Any]) -> None:
        self.progress.history.append(entry)
        self.display.evaluation(entry)

    def keep(self, tried: Tried) -> None:
        """Called after each fold; writes a checkpoint where the last one is old."""
        self.kept, self._done = tried, replace(self.progress)
        if time.monotonic() - self._saved > CHECKPOINT_SECONDS:
            self._save()

    def ended(self, logits: Array, epochs: int) -> None:
        """Keeps that the training is over, and the ``logits`` that measure it (``FewRows``): whoever resumes from here
        has but to measure and to save.
        """
        self.logits, state = logits, self.progress
        state.epoch, state.seconds, state.finished = epochs, self.seconds, True
        self._write(state, {"logits": torch.from_numpy(logits)}, {})

    def interrupted(self) -> Interrupted:
        """What to raise of a run that was stopped, whose folds are kept."""
        if not self.kept:
            return Interrupted("stopped before the first fold was done; nothing is kept.")
        self._save()
        done = len(next(iter(self.kept.values())))
        return Interrupted(
            f"stopped after {done} of {self.folds} folds, which are kept in {str(self._checkpoints.folder)!r}.",
            hint="Go on with the same call and --resume (resume=True).",
        )

    def _save(self) -> None:
        # Evaluations are told again: they take no time once the folds are done.
        self._write(replace(self._done, history=[]), {}, _tensors(self.kept))
        self._saved = time.monotonic()

    def _write(self, progress: Progress, ended: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> None:
        self._checkpoints.save_last(progress, ended, kept, header={**self._header, "folds": self.folds})


def _tensors(tried: Mapping[int, Sequence[Features]]) -> dict[str, Tensor]:
    """Named EPOCHS/FOLD/PART."""
    return {
        f"{epochs}/{fold}/{part}": torch.from_numpy(array)
        for epochs, folded in tried.items()
        for fold, features in enumerate(folded)
        for part, array in vars(features).items()
        if array is not None
    }


def _features(tensors: Mapping[str, Tensor]) -> Tried:
    """The inverse of ``_tensors``."""
    parts: dict[tuple[int, int], dict[str, Any]] = {}
    for name, tensor in tensors.items():
        epochs, fold, part = name.split("/")
        parts.setdefault((int(epochs), int(fold)), {})[part] = tensor.numpy()
    tried: Tried = {}
    for epochs, fold in sorted(parts):
        tried.setdefault(epochs, []).append(Features(**parts[epochs, fold]))
    return tried
