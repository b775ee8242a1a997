"""Trackers as they should not be, made in a process of their own: see ``test_track_guard``."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

from polydetr.training.trackers.base import TrackedRun, Tracker
from polydetr.training.trackers.tensorboard import TensorBoard


class Kept(Tracker):
    """Writes what it is told, a line each, into ``said`` of its folder."""

    def __init__(self, run: TrackedRun) -> None:
        super().__init__(run)
        self.say("opened", run.name)

    def say(self, *what) -> None:
        Path(self.run.folder).mkdir(parents=True, exist_ok=True)
        with (Path(self.run.folder) / "said").open("a") as file:
            print(*what, file=file)

    def scalars(self, values, *, step):
        self.say("scalars", dict(values), step)

    def text(self, name, text, *, step):
        self.say("text", name, text, step)

    def table(self, name, columns, rows, *, step):
        self.say("table", name, columns, rows, step)

    def picture(self, name, png, *, step):
        self.say("picture", name, len(png), step)

    def summary(self, values, *, step):
        self.say("summary", dict(values), step)

    def close(self, status):
        self.say("closed", status)


class FailsToOpen(Kept):
    def __init__(self, run):
        raise RuntimeError("no such server\nwith a second line")


class FailsInTheMiddle(Kept):
    def scalars(self, values, *, step):
        if step > 2:
            raise ValueError(f"step {step} is too much")
        super().scalars(values, step=step)


class FailsToClose(Kept):
    def close(self, status):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class SleepsForEver(Kept):
    def scalars(self, values, *, step):
        super().scalars(values, step=step)
        time.sleep(10_000)


class SleepsOpening(Kept):
    def __init__(self, run):
        super().__init__(run)
        time.sleep(10_000)


class Dies(Kept):
    def scalars(self, values, *, step):
        os.kill(os.getpid(), signal.SIGSEGV)


class Prints(Kept):
    def scalars(self, values, *, step):
        print("not for the training's output", flush=True)
        os.write(2, b"nor this")
        super().scalars(values, step=step)


class TellsASecret(Kept):
    def scalars(self, values, *, step):
        raise RuntimeError(f"refused key {os.environ['WANDB_API_KEY']} at postgresql://me:hunter2@host/db")


class OnAFullDisk(TensorBoard):
    """Its file is the device that is always full."""

    def __init__(self, run):
        super().__init__(run)
        full = open("/dev/full", "wb")  # noqa: SIM115 - the tracker closes it
        os.dup2(full.fileno(), self._file.fileno())
