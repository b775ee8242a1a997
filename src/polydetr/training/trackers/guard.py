"""The training's side of one tracker: a bounded queue, a thread that empties it into the tracker's process."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from polydetr.core.files import plain
from polydetr.training.trackers.base import Status, TrackedRun
from polydetr.training.trackers.worker import command, environment

WAITING = 256
"""Items that wait for a tracker at most; what comes while so many do is dropped and counted."""
PATIENCE = 60.0
"""Seconds that a tracker may take over one item, or to open, before its process is ended."""


class Guard:
    """Hands items on to a tracker in a process of its own, and never waits for it.

    kind: the tool's name; place: ``module:Class`` of its tracker. ``failure``: why it was switched off; ``dropped``:
    items that it was too slow for.
    """

    def __init__(self, kind: str, place: str, run: TrackedRun, *, patience: float | None = None) -> None:
        self.kind, self.failure, self.dropped = kind, "", 0
        self._patience = PATIENCE if patience is None else patience
        self._run, self._command = run, command(place, self._patience)
        self._queue: queue.Queue[Mapping[str, Any] | None] = queue.Queue(WAITING)
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._work, daemon=True, name=f"polydetr-{kind}")
        self._thread.start()

    def put(self, do: str, **given: Any) -> None:
        """Records one thing, some time later: ``do`` is a method of ``Tracker``."""
        if self.failure:
            return
        try:
            self._queue.put_nowait({"do": do, **given})
        except queue.Full:
            self.dropped += 1

    def finish(self, status: Status) -> None:
        """Nothing more comes. Does not wait."""
        self.put("close", status=status)
        try:
            self._queue.put_nowait(None)
        except queue.Full:  # it has not taken anything for long
            self._kill()

    def wait(self, until: float) -> None:
        """Until all is written, or ``time.monotonic() == until``."""
        self._thread.join(max(0.0, until - time.monotonic()))

    @property
    def is_writing(self) -> bool:
        return self._thread.is_alive()

    def _work(self) -> None:
        failure = ""
        try:
            # Ctrl-C is for the training, which then says how it ended: hence a session of its own.
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env=environment(), start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            self.failure = f"it cannot be started ({error})"
            return
        with self._process as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                self._send(asdict(self._run))
                while (item := self._queue.get()) is not None:
                    self._send(item)
            except (OSError, ValueError, TypeError) as error:  # as a rule it has ended, and says why itself
                failure = f"{type(error).__name__}: {error}"
            with suppress(OSError):
                process.stdin.close()
            reason = process.stdout.read().decode(errors="replace")
        self.failure = self.failure or reason or self._ending(process.returncode) or failure

    def _send(self, item: Mapping[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        line = json.dumps(plain(dict(item)), ensure_ascii=False)  # halves of characters become question marks
        self._process.stdin.write(line.encode(errors="replace") + b"\n")
        self._process.stdin.flush()

    def _ending(self, code: int) -> str:
        """Why the process ended so, where it could not say it; "" where it ended well."""
        if code == -14:  # SIGALRM
            return f"it did not answer for {self._patience:g} seconds"
        return f"its process ended with status {code}" if code else ""

    def _kill(self) -> None:
        self.failure = self.failure or "it took nothing more"
        if self._process is not None:
            self._process.kill()
