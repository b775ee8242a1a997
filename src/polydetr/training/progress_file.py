"""How far a run has got, in a small file beside its checkpoint: whoever looks at the folder sees it live.

The checkpoint itself is written once a minute, and holds the weights; this says what a progress bar says.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from polydetr.core.files import write_json
from polydetr.inference.folder import PROGRESS
from polydetr.training.callbacks import Display, StepInfo

SECONDS = 1.0
"""Between two writings, where no evaluation lies between."""


class ProgressFile(Display):
    """Writes ``folder``/progress.json, whole or not at all. What it cannot write is not told: the run goes on.

    history: the evaluations of the run that is gone on with.
    """

    def __init__(self, folder: Path, *, history: list[dict[str, Any]]) -> None:
        self._path = folder / PROGRESS
        self._said: dict[str, Any] = {"progress": 0.0, "history": history}
        self._began, self._last = time.monotonic(), -SECONDS

    def note(self, message: str) -> None:
        if not self._said.get("step"):  # before the first step, all that there is to see
            self._write(doing=message)

    def step(self, info: StepInfo) -> None:
        if (now := time.monotonic()) - self._last >= SECONDS:
            self._last = now
            self._write(
                doing="", progress=round(info.progress, 4), step=info.step, epoch=round(info.epoch, 3), loss=info.loss,
                pace=info.pace, remaining_seconds=round(info.remaining_seconds, 1),
            )  # fmt: skip

    def evaluation(self, entry: Mapping[str, Any]) -> None:
        self._said["history"] = [*self._said["history"], dict(entry)]
        self._write(doing="")

    def _write(self, **said: Any) -> None:
        self._said |= {**said, "seconds": round(time.monotonic() - self._began, 1)}
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, self._said)
