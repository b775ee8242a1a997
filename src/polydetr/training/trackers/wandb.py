"""A Weights & Biases run. Nothing leaves the machine until ``wandb sync``, unless WANDB_MODE=online is set."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from polydetr.training.trackers.base import Status, TrackedRun, Tracker

_EXIT = {"finished": 0, "failed": 1, "interrupted": 130}


class WeightsAndBiases(Tracker):
    """The run in ``wandb/``; a study is its group. The project is ``polydetr``, or WANDB_PROJECT."""

    def __init__(self, run: TrackedRun) -> None:
        super().__init__(run)
        import wandb  # pyright: ignore[reportMissingImports]

        self._wandb = wandb
        run.place.mkdir(parents=True, exist_ok=True)
        quiet = wandb.Settings(
            silent=True, console="off", disable_git=True, disable_code=True, disable_job_creation=True,
            x_disable_stats=True, x_disable_meta=True,
        )  # fmt: skip
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "polydetr"), dir=run.folder, id=run.key, name=run.name,
            group=run.group, config=dict(run.config), settings=quiet, resume="allow" if run.resumed else None,
        )  # fmt: skip

    def scalars(self, values: Mapping[str, float], *, step: int) -> None:
        self._run.log(dict(values), step=step)

    def text(self, name: str, text: str, *, step: int) -> None:
        self._run.log({name: self._wandb.Html(f"<pre>{escape(text)}</pre>", inject=False)}, step=step)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, step: int) -> None:
        table = self._wandb.Table(columns=list(columns), data=[list(row) for row in rows], allow_mixed_types=True)
        self._run.log({name: table}, step=step)

    def picture(self, name: str, png: bytes, *, step: int) -> None:
        from PIL import Image

        self._run.log({name: self._wandb.Image(Image.open(io.BytesIO(png)))}, step=step)

    def summary(self, values: Mapping[str, Any], *, step: int) -> None:
        self._run.summary.update(dict(values))

    def close(self, status: Status) -> None:
        self._run.finish(exit_code=_EXIT[status])
