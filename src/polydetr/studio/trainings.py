"""Trainings that were started from a page: processes of their own, at most one at a time, ended with the service.

A training runs as ``python -m polydetr train``, in the folder of runs; its rows and its log lie beside it, in
``NAME.data``. It is stopped as a person would stop it, by Ctrl-C (SIGINT), so that it keeps its checkpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from polydetr.core.files import file_names
from polydetr.errors import InputError, OutputError, SaveError, quoted
from polydetr.inference.folder import checkpoint_of

LOG = "train.log"
GRACE_S = 20.0
"""How long a training may take to save its state when the service ends."""
_MOST_LOG = 16_384
PRESETS = ("balanced", "fast", "best")


@dataclass(frozen=True)
class Wanted:
    """What is trained. file: the rows; targets: columns, NAME or NAME:TASK; minutes: at most, 0: no limit."""

    name: str
    file: Path
    targets: Sequence[str]
    backbone: str = "auto"
    preset: str = "balanced"
    minutes: float = 0.0

    def arguments(self, out: Path, file: Path) -> list[str]:
        """After ``polydetr``. Every value stands in one argument with its option: none can be taken for an option."""
        words = ["train", f"--train={file}", *(f"--target={target}" for target in self.targets)]
        words += [f"--backbone={self.backbone}"] if self.backbone != "auto" else []
        words += [f"--preset={self.preset}", f"--out={out}"]
        words += [f"--time-limit={round(60 * self.minutes)}s"] if self.minutes else []
        return words


@dataclass
class Started:
    """A training of this service. code: its exit code once it has ended."""

    name: str
    out: Path
    log: Path
    process: asyncio.subprocess.Process
    began: float = field(default_factory=time.time)
    stopping: bool = False
    code: int | None = None

    def tail(self) -> str:
        """The end of what it has said. Blocks."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - _MOST_LOG))
                return file.read(_MOST_LOG).decode("utf-8", "replace")
        except OSError:
            return ""


class Trainings:
    """Of one service. folder: of the runs. ended: is told of each that ends."""

    def __init__(self, folder: Path, *, ended: Callable[[Started], None] = lambda started: None) -> None:
        self.folder = folder
        self.last: Started | None = None
        self._ended = ended
        self._waiting: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._closing = False

    @property
    def running(self) -> Started | None:
        """The one that is under way."""
        return self.last if self.last is not None and self.last.code is None else None

    def free_name(self, wanted: str) -> str:
        """A name of a run that is not taken, as near as it can be to what is wanted. Blocks."""
        stem = next(iter(file_names([wanted]).values())) or "model"
        taken = {path.name for path in self.folder.iterdir()} if self.folder.is_dir() else set()
        names = (stem if i == 1 else f"{stem}-{i}" for i in range(1, len(taken) + 2))
        return next(n for n in names if not {n, f"{n}.checkpoint", f"{n}.data"} & taken)

    async def start(self, wanted: Wanted) -> Started:
        """Moves the file beside the run, and begins.

        Raises:
            InputError: one is under way; there is no target, or the name is taken. SaveError.
        """
        async with self._starting:  # of two people at once, one
            return await self._begun(wanted)

    async def _begun(self, wanted: Wanted) -> Started:
        if self.running is not None or self._closing:
            name = self.running.name if self.running else ""
            raise InputError(
                f"the training {quoted(name)} is under way, and one runs at a time.", hint="Stop it first."
            )
        if not wanted.targets:
            raise InputError("no column is chosen that the model is to answer.", hint="Choose a target.")
        out = (self.folder / wanted.name).resolve()
        file, log = await asyncio.to_thread(self._placed, wanted, out)
        with log.open("wb") as said:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "polydetr", *wanted.arguments(out, file), stdin=asyncio.subprocess.DEVNULL,
                stdout=said, stderr=said, cwd=self.folder, start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "100"},
            )  # fmt: skip
        self.last = Started(wanted.name, out, log, process)
        self._waiting = asyncio.get_running_loop().create_task(self._wait(self.last))
        return self.last

    def _placed(self, wanted: Wanted, out: Path) -> tuple[Path, Path]:
        data = out.with_name(f"{out.name}.data")
        if any(os.path.lexists(path) for path in (out, data, checkpoint_of(out))):
            raise OutputError(f"there is a run {quoted(wanted.name)} already.", hint="Name it otherwise.")
        try:
            data.mkdir()
            kept = data / wanted.file.name
            shutil.move(wanted.file, kept)
            with contextlib.suppress(OSError):
                wanted.file.parent.rmdir()
        except OSError as error:
            raise SaveError(
                f"cannot write {str(data)!r}: {error.strerror or error}.", hint="Free some disk space."
            ) from None
        return kept, data / LOG

    async def _wait(self, started: Started) -> None:
        started.code = await started.process.wait()
        self._ended(started)

    def stop(self) -> bool:
        """Ctrl-C for the one that is under way; whether there was one. It saves its state, then it ends."""
        started = self.running
        if started is None:
            return False
        started.stopping = True
        with contextlib.suppress(ProcessLookupError):
            started.process.send_signal(signal.SIGINT)
        return True

    async def close(self) -> None:
        """The service ends: so does its training, with its state saved; after ``GRACE_S`` without."""
        self._closing = True
        started = self.running
        if started is None or self._waiting is None:
            return
        self.stop()
        done, _ = await asyncio.wait({self._waiting}, timeout=GRACE_S)
        if not done:
            with contextlib.suppress(ProcessLookupError):
                started.process.kill()
            await asyncio.wait({self._waiting}, timeout=5.0)
