"""The process of one tracker: reads what to record from standard input, a line of JSON each, and hands it to the tool.

Its own process, because these tools take over the one they live in: they import for seconds, start services whose end
the interpreter waits for without limit (wandb), and hold the lock that the training needs. Here the worst that one can
do is to be ended: by the clock, if it takes ``patience`` seconds over anything.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

from polydetr.training.trackers.base import Status, TrackedRun, Tracker

LEAST_FREE = 256 * 2**20
"""Bytes that must be free on the disk for a tracker to go on: they are the checkpoints'."""
SECONDS_OF_DISK = 2.0
_SECRETS = ("WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "DATABRICKS_TOKEN")


class DiskFull(Exception):
    """Too little is free on the disk."""


def main(place: str, patience: str) -> int:
    """place: ``module:Class`` of the tracker; patience: seconds that each call of it may take."""
    answers = os.dup(1)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)  # whatever the tool prints is not the training's
    os.dup2(nothing, 2)
    if hasattr(os, "nice"):
        os.nice(10)
    clock = Clock(float(patience))
    try:
        lines = iter(sys.stdin.buffer)
        run = TrackedRun(**json.loads(next(lines)))
        module, _, name = place.partition(":")
        with clock:
            tracker: Tracker = getattr(import_module(module), name)(run)
        serve(tracker, lines, clock=clock)
    except BaseException as error:
        os.write(answers, reason_of(error).encode(errors="replace")[:4000])
        os.close(answers)
        os._exit(1)  # the tool's own ending may wait for what has just failed
    clock.start()  # for the interpreter's end, which runs what the tool registered
    return 0


def serve(tracker: Tracker, lines: Iterable[bytes], *, clock: Clock) -> None:
    """Hands on what comes, to the end of ``lines``: the training's own, or that of its process.

    Raises:
        DiskFull, and whatever the tool raises.
    """
    status: Status = "failed"
    checked = float("-inf")
    for line in lines:
        item = json.loads(line)
        if time.monotonic() - checked >= SECONDS_OF_DISK:
            check_disk(tracker.run)
            checked = time.monotonic()
        do = item.pop("do")
        if do == "close":
            status = item["status"]
            continue
        if do == "picture":
            item["png"] = base64.b64decode(item["png"])
        if do == "scalars":  # not a number became null on the way
            item["values"] = {name: value for name, value in item["values"].items() if value is not None}
        with clock:
            getattr(tracker, do)(**item)
    with clock:
        tracker.close(status)


def check_disk(run: TrackedRun) -> None:
    place = next((p for p in (run.place, *run.place.resolve().parents) if p.exists()), None)
    free = shutil.disk_usage(place).free if place is not None else LEAST_FREE
    if free < LEAST_FREE:
        raise DiskFull(f"only {free / 2**20:,.0f} MiB are free on the disk, which are left to the training")


class Clock:
    """Ends the process where the block takes longer than ``seconds``, whatever it hangs in; not on Windows."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def start(self) -> None:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0.0)


def reason_of(error: BaseException, environment: Mapping[str, str] = os.environ) -> str:
    """The error in one line, without a key or password that it may name."""
    text = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
    for name in _SECRETS:
        if secret := environment.get(name):
            text = text.replace(secret, "…")
    return re.sub(r"://[^/\s@]+@", "://…@", text)


def command(place: str, patience: float) -> list[str]:
    """The command line of such a process."""
    start = f"import sys; from {__name__} import main; sys.exit(main(*sys.argv[1:]))"
    return [sys.executable, "-c", start, place, str(patience)]


def environment() -> dict[str, str]:
    """What such a process finds in its environment: this one's modules; and no tool reports home by itself."""
    quiet: dict[str, Any] = {
        "WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_CONSOLE": "off", "WANDB_ERROR_REPORTING": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_LOGGING_LEVEL": "ERROR",
        "GIT_PYTHON_REFRESH": "quiet",
    }  # fmt: skip
    path = os.pathsep.join(p for p in sys.path if p)
    inherited = dict(os.environ)
    with suppress(KeyError):
        del inherited["WANDB_SERVICE"]  # the service of another run of this process
    return quiet | inherited | {"PYTHONPATH": path}
