"""A labeled file that was answered is measured as well: by a process of its own, when its answers are there."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polydetr.errors import PolydetrError
from polydetr.serving.contract import Fleet
from polydetr.serving.jobs import Job
from polydetr.serving.rows import Columns
from polydetr.studio.batch_rows import has_label
from polydetr.studio.measuring_process import RESULT

MEASURED = "measured"
"""Among the facts of a job: the ``Measured``."""
_LOOKED_AT = 2_000
"""Rows that are looked at for a label."""
_MOST_S = 3600.0


@dataclass(frozen=True)
class Measured:
    """state: "running", "done" or "failed". version: of the model that was measured. wrong: target → the numbers of the
    rows that it answered wrongly; pages: files in ``folder``, one per target that shows its mistakes.
    """

    state: str
    folder: Path
    version: str = ""
    targets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()
    error: PolydetrError | None = None

    @property
    def wrong(self) -> dict[str, frozenset[int]]:
        """Of the targets that can tell."""
        return {
            target: frozenset(map(int, found["wrong"]))
            for target, found in self.targets.items() if found["shows_mistakes"]
        }  # fmt: skip

    def metrics(self, target: str, most: int = 8) -> list[tuple[str, float, tuple[float, float] | None]]:
        """Name, value and, where it was computed, the 95 % interval."""
        known = self.targets[target]["metrics"]
        found = []
        for name, value in known.items():
            if name.endswith(("_low", "_high")) or not isinstance(value, int | float):
                continue
            ends = (known.get(f"{name}_low"), known.get(f"{name}_high"))
            found.append((name, float(value), ends if None not in ends else None))
        return found[:most]


def is_labeled(job: Job, columns: Columns) -> bool:
    """Whether some of the first rows have a value of a target."""
    rows = job.answered.read(1, _LOOKED_AT) if job.answered is not None else []
    return any(has_label(row, target) for row in rows for target in columns.targets)


async def measure(fleet: Fleet, job: Job) -> None:
    """Measures what the job has answered, where it is labeled; ends with the job."""
    info = fleet.models().get(job.model)
    if info is None or job.answered is None or not await asyncio.to_thread(is_labeled, job, Columns.of(info)):
        return
    folder = job.folder / "measured"
    job.facts[MEASURED] = Measured("running", folder)
    try:
        folder.mkdir(mode=0o700)
        command = [
            sys.executable,
            "-m",
            "polydetr.studio.measuring_process",
            info.folder,
            str(job.answered.path),
            str(folder),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL, env=environment,
        )  # fmt: skip
        try:
            async with asyncio.timeout(_MOST_S):
                await process.wait()
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        job.facts[MEASURED] = await asyncio.to_thread(_read, folder, info.version)
    except (OSError, ValueError, TimeoutError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        job.facts[MEASURED] = Measured("failed", folder, error=PolydetrError(f"measuring failed ({reason})."))
    finally:
        if (now := job.facts.get(MEASURED)) is not None and now.state == "running":  # it was cancelled
            del job.facts[MEASURED]


def _read(folder: Path, version: str) -> Measured:
    """Raises OSError, ValueError: the process has ended without a result."""
    found = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    if error := found.get("error"):
        return Measured("failed", folder, error=PolydetrError(str(error["message"]), hint=error.get("hint")))
    return Measured(
        "done", folder, version, found["targets"], tuple(found["lines"]), tuple(found["pages"])
    )  # fmt: skip
