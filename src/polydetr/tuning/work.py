"""One process's work on a study: trial by trial, within the time, and which models are kept on the disk meanwhile."""

from __future__ import annotations

import math
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polydetr.core.files import make_folder
from polydetr.core.studies import TrialRecord
from polydetr.errors import Interrupted, PolydetrError, SaveError, shown
from polydetr.inference.folder import MANIFEST
from polydetr.training.callbacks import Display, StepInfo
from polydetr.training.trials import SharedRows, TrialResult
from polydetr.tuning.pruning import falls_behind
from polydetr.tuning.study import KeptStudy, Taken
from polydetr.tuning.times import Times

MOST_FAILED = 10
"""Trials that fail, with none that does not, after which no more are begun."""
_WAIT_SECONDS = 1.0


@dataclass(frozen=True)
class Wanted:
    """trials: so many in all, the default among them; None: as many as the time limit has room for. keep: the best so
    many have their models kept, beside the default's. refit: train the kept settings once more, on all rows. metric: by
    which weights and settings are chosen, of each target that has it; None: the first one of each.
    """

    trials: int | None
    keep: int = 3
    refit: bool = False
    metric: str | None = None


class Work:
    """folder: of the study's files; ``folder/trials/NNN`` are the models that are kept."""

    def __init__(
        self, study: KeptStudy, rows: SharedRows, wanted: Wanted, times: Times, folder: Path, display: Display
    ) -> None:
        self.study, self.rows, self.wanted, self.times = study, rows, wanted, times
        self.folder, self.display = folder, display

    def run(self) -> None:
        """Trains until there are as many trials as wanted, the time is over, or nothing is left to try.

        Raises:
            Interrupted: by the user; the trial under way is free to be begun anew. StudyError: the database is away.
            SaveError: nothing can be written.
        """
        told = False
        while True:
            records = self.study.records()
            self._tidy(records)
            fits, seconds = self._time(records)
            if not fits or _all_failed(records):
                break
            if (taken := self.study.take(most=self.wanted.trials)) is not None:
                self._train(taken, seconds, records)
                continue
            others = self.study.under_way()
            if not others:
                break
            if not told:
                self.display.note(f"waits for the trials that {', '.join(sorted(set(others)))} trains")
                told = True
            time.sleep(_WAIT_SECONDS)
        self._say_how_far(records)

    @staticmethod
    def best_of(records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """The trials that ended well, the best first, of equal ones the first."""
        ended = [record for record in records if record.score is not None]
        return sorted(ended, key=lambda record: (-(record.score or 0.0), record.number))

    def model_of(self, number: int) -> Path:
        """The model folder of a trial; it is trained again where another machine has it."""
        folder = self._folder(number)
        if not (folder / MANIFEST).exists():
            record = self.study.records()[number]
            self.display.note(f"trial {number} is trained again: its model is not in {str(folder)!r}")
            self.rows.train(record.settings, out=folder, display=Steps(self.display))
        return folder

    # -- one trial ----------------------------------------------------------------------------------------------------

    def _train(self, taken: Taken, seconds: float | None, records: Sequence[TrialRecord]) -> None:
        again = ", begun anew" if taken.again else ""
        self.display.note(f"trial {taken.number}{again}: {settings_told(taken.settings)}")
        asked, began = _Asked(taken.others), time.monotonic()
        with self.study.held(taken):
            try:
                result = self.rows.train(
                    taken.settings, out=self._free(taken.number), on_evaluation=asked, seconds=seconds,
                    display=Steps(self.display, notes=taken.number == 0), group=self.study.name,
                )  # fmt: skip
            except (Interrupted, KeyboardInterrupt, OutOfPlace):
                self.study.release(taken)
                raise
            except Exception as error:
                self._failed(taken, reason_of(error), time.monotonic() - began)
                return
            self.times.measuring = self.rows.seconds_to_compare()
            if result.pruned:
                self.study.pruned(taken, result, asked.curve, reason=asked.reason)
                self.display.note(f"trial {taken.number} was given up: {asked.reason}")
            elif not math.isfinite(result.score):
                self._failed(taken, "its score is not a number", result.seconds)
            else:
                self.study.complete(taken, result, asked.curve)
                self._say_reached(taken, result, records)

    def _say_reached(self, taken: Taken, result: TrialResult, records: Sequence[TrialRecord]) -> None:
        best = next(iter(self.best_of(records)), None)
        beaten = best is None or best.score is None or best.score < result.score
        standing = "the best so far" if beaten else f"trial {best.number} has {best.score:.4f}"  # type: ignore[union-attr]
        self.display.note(f"trial {taken.number} reached {result.score:.4f} in {result.seconds:.1f} s ({standing})")

    def _failed(self, taken: Taken, reason: str, seconds: float) -> None:
        self._remove(taken.number)
        self.study.failed(taken, reason=reason, seconds=seconds)
        self.display.note(f"trial {taken.number} failed: {reason}")

    def _time(self, records: Sequence[TrialRecord]) -> tuple[bool, float | None]:
        if not records or records[0].state == "running":
            return True, self.times.of_default(alone=self.wanted.trials == 1)
        return self.times.of_next(records)

    def _say_how_far(self, records: Sequence[TrialRecord]) -> None:
        most, count = self.wanted.trials, len(records)
        if most is not None and count < most and not _all_failed(records):
            fits, _ = self._time(records)
            why = "no settings are left that were not tried" if fits else "the time limit has no room for more"
            self.display.note(f"{count} of {most} trials: {why}")
        if count == 1 and not self._time(records)[0]:
            took = records[0].seconds
            self.display.note(
                f"the time limit leaves no time for a second trial: nothing was compared with the default, which took "
                f"{took:.0f} s; a limit of {6 * took + 30:.0f}s has room for a few"
            )

    # -- folders ------------------------------------------------------------------------------------------------------

    def _folder(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:03d}"

    def _free(self, number: int) -> Path:
        """The folder of a trial, in which nothing is left of an earlier process. Raises OutOfPlace."""
        folder = self._folder(number)
        try:
            self._remove(number)
            make_folder(folder.parent)
        except OSError as error:
            raise OutOfPlace(
                f"cannot write to {str(folder.parent)!r}: {error.strerror or error}.",
                hint="Make room, then go on with the same call and --resume (resume=True).",
            ) from None
        return folder

    def _tidy(self, records: Sequence[TrialRecord]) -> None:
        """Removes the models of all trials that ended, but those that are kept."""
        kept = {0, *(record.number for record in self.best_of(records)[: self.wanted.keep])}
        for record in records:
            if record.state != "running" and record.number not in kept:
                self._remove(record.number)

    def _remove(self, number: int) -> None:
        """The model of a trial, and what a process that was killed left of it."""
        folder = self._folder(number)
        left = re.compile(rf"\.?{re.escape(folder.name)}(\..*)?")
        if not folder.parent.is_dir():
            return
        for path in folder.parent.iterdir():
            if left.fullmatch(path.name) and path.is_dir() and path.suffix != ".runs":
                shutil.rmtree(path, ignore_errors=True)
            elif left.fullmatch(path.name) and not path.is_dir():
                path.unlink(missing_ok=True)


class Steps(Display):
    """Shows the steps of a trial. notes: also what it has to say, which the others would but repeat."""

    def __init__(self, display: Display, *, notes: bool = False) -> None:
        self._display, self._notes = display, notes

    def note(self, message: str) -> None:
        if self._notes:
            self._display.note(message)

    def step(self, info: StepInfo) -> None:
        self._display.step(info)


class _Asked:
    """What a trial asks after each evaluation: whether it is given up. others: the curves of trials that ran to their
    end; curve: its own; both percent of the run → score.
    """

    def __init__(self, others: Sequence[Mapping[int, float]]) -> None:
        self.others, self.reason = others, ""
        self.curve: dict[int, float] = {}

    def __call__(self, entry: Mapping[str, Any]) -> bool:
        if not math.isfinite(entry["score"]):
            return False
        self.curve[round(100 * entry["progress"])] = float(entry["score"])
        if entry["progress"] < 1.0:
            self.reason = falls_behind(self.curve, self.others) or ""
        return bool(self.reason)


class OutOfPlace(SaveError):
    """The folder of a study can no longer be written: no trial's fault."""


def _all_failed(records: Sequence[TrialRecord]) -> bool:
    return len(records) >= MOST_FAILED and all(record.state == "failed" for record in records)


def settings_told(settings: Mapping[str, Any]) -> str:
    """For a line of progress."""
    return ", ".join(f"{key}={shown(value, 40)}" for key, value in settings.items()) or "the default, nothing changed"


def reason_of(error: BaseException) -> str:
    """Why a trial failed, in a line."""
    if isinstance(error, PolydetrError):
        return error.message.rstrip(".")
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "it needs more memory than there is"
    text = " ".join(str(error).split())[:200]
    if "memory" in text and "alloc" in text:  # PyTorch on a CPU
        return f"it needs more memory than there is ({text[:80]})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
