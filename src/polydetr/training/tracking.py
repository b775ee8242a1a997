"""Numbers of a run for a dashboard: TensorBoard, or Weights & Biases without a network.

Neither is imported unless it is configured.
TensorBoard's own event files are written directly: going through torch would import a good second of other things.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from polydetr.errors import ConfigError
from polydetr.training.loop import Display, StepInfo

EVERY_SECONDS = 1.0
"""The least time between two logged steps; evaluations are always logged."""


class Tracker(Display):
    """A display that logs numbers; this one logs none."""

    def scalars(self, values: Mapping[str, float], *, step: int) -> None: ...

    def __init__(self) -> None:
        self._last = float("-inf")

    def step(self, info: StepInfo) -> None:
        """Loss, learning rate and speed, at most once in ``EVERY_SECONDS``."""
        if time.monotonic() - self._last >= EVERY_SECONDS:
            self._last = time.monotonic()
            values = {"loss": info.loss, "lr": info.learning_rate, "tokens_per_second": info.tokens_per_second}
            self.scalars({f"train/{name}": value for name, value in values.items()}, step=info.step)

    def evaluation(self, entry: Mapping[str, Any]) -> None:
        """Losses and every target's metrics."""
        values = {"train/mean_loss": entry["train_loss"], "valid/loss": entry["valid_loss"]}
        for target, metrics in entry["metrics"].items():
            values |= {f"valid/{target}/{name}": value for name, value in metrics.items()}
        self.scalars(values, step=entry["step"])


class TensorBoardTracker(Tracker):
    """Event files in ``folder``, which ``tensorboard --logdir`` shows while the run goes on."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        try:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            raise _missing("tensorboard") from None
        self._writer = EventFileWriter(str(folder))

    def scalars(self, values: Mapping[str, float], *, step: int) -> None:
        # Generated from protocol buffers: no type checker sees their names.
        from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=points)))

    def close(self) -> None:
        self._writer.close()


class WandbTracker(Tracker):
    """A Weights & Biases run kept in ``folder``. Nothing leaves the machine until the user runs ``wandb sync``, or sets
    WANDB_MODE=online.
    """

    def __init__(self, folder: Path, *, config: Mapping[str, Any]) -> None:
        super().__init__()
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise _missing("wandb") from None
        mode = os.environ.get("WANDB_MODE", "offline")
        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(project="polydetr", dir=str(folder), mode=mode, config=dict(config))

    def scalars(self, values: Mapping[str, float], *, step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


def make_tracker(kind: Literal["none", "tensorboard", "wandb"], folder: Path, *, config: Mapping[str, Any]) -> Tracker:
    """Raises ConfigError where the library that ``kind`` names is not installed."""
    if kind == "tensorboard":
        return TensorBoardTracker(folder)
    if kind == "wandb":
        return WandbTracker(folder, config=config)
    return Tracker()


def _missing(library: str) -> ConfigError:
    extra = "polydetr[track]" if library == "tensorboard" else library
    return ConfigError(
        f"track = {library!r}: {library} is not installed.", hint=f"pip install {extra}, or track: none."
    )
