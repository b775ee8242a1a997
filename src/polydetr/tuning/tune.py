"""The study itself: the default first, then trial by trial what the sampler proposes, and in the end one model.

The default has to be beaten: the best trial is kept where it is the better one in ``BETTER`` of the resamples of
validation rows that chose nothing (neither weights nor settings). Otherwise the default is.
"""

from __future__ import annotations

import math
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polydetr.core.files import make_folder
from polydetr.core.studies import Gain, StudyRecord, TrialRecord
from polydetr.errors import Interrupted, PolydetrError, SaveError, StudyError, first_of, shown
from polydetr.training.loop import Display, StepInfo
from polydetr.training.trials import SharedRows, TrialResult
from polydetr.tuning.study import KeptStudy, Taken
from polydetr.tuning.times import Times

BETTER = 0.8
"""Share of the resamples in which the best trial has to be better than the default, to be kept."""
MOST_FAILED = 10
"""Trials that fail, with none that does not, after which no more are begun."""
TRIALS = 20
"""Where neither a number of trials nor a time limit is given."""
_WAIT_SECONDS = 1.0


@dataclass(frozen=True)
class Wanted:
    """trials: so many in all, the default among them; None: as many as the time limit has room for. keep: the best so
    many have their models kept, beside the default's. refit: train the kept settings once more, on all rows.
    """

    trials: int | None
    keep: int = 3
    refit: bool = False


@dataclass(frozen=True)
class Found:
    """best, kept: numbers of trials; gain: of the best against the default, None where it was not measured."""

    best: int
    kept: int
    gain: Gain | None


class Tuning:
    """One process's work on a study. folder: of the study's files; ``folder/trials/NNN`` are the models that are kept.
    """

    def __init__(
        self, study: KeptStudy, rows: SharedRows, wanted: Wanted, times: Times, folder: Path, display: Display
    ) -> None:
        self.study, self.rows, self.wanted, self.times = study, rows, wanted, times
        self.folder, self.display = folder, display

    def run(self) -> None:
        """Trains until there are as many trials as wanted, the time is over, or nothing is left to try.

        Raises:
            Interrupted: by the user; the trial under way is free to be begun anew. PolydetrError: every trial failed.
        """
        told = False
        while True:
            records = self.study.records()
            if self._all_failed(records):
                break
            fits, seconds = self._time(records)
            if not fits:
                break
            taken = self.study.take(most=self.wanted.trials)
            if taken is not None:
                self._train(taken, seconds)
                self._tidy()
                continue
            others = self.study.busy()
            if not others:
                break
            if not told:
                self.display.note(f"waits for the trials that {', '.join(sorted(set(others)))} trains")
                told = True
            time.sleep(_WAIT_SECONDS)
        self._say_how_far(self.study.records())

    def choose(self) -> Found:
        """The trial whose model is saved.

        Raises:
            PolydetrError: every trial failed, with the reasons counted.
        """
        records = self.study.records()
        ended = [record for record in records if record.score is not None]
        if not ended:
            raise PolydetrError(f"no trial ended well: {_counted(records)}.", hint="Nothing was saved.")
        best = max(ended, key=lambda record: (record.score, -record.number))
        default = records[0]
        if best.number == 0 or default.score is None:
            return Found(best.number, best.number, None)
        gain = self.rows_gain(0, best.number)
        return Found(best.number, best.number if gain.share_better >= BETTER else 0, gain)

    def rows_gain(self, default: int, best: int) -> Gain:
        from polydetr.training.trials import gain

        return gain(self.model_of(default), self.model_of(best), self.rows)

    def model_of(self, number: int) -> Path:
        """The model folder of a trial; it is trained again where another machine has it."""
        from polydetr.inference.folder import MANIFEST

        folder = self._folder(number)
        if not (folder / MANIFEST).exists():
            record = self.study.records()[number]
            self.display.note(f"trial {number} is trained again: its model is not in {str(folder)!r}")
            self.rows.train(record.settings, out=folder, display=_Steps(self.display))
        return folder

    # -- one trial ----------------------------------------------------------------------------------------------------

    def _train(self, taken: Taken, seconds: float | None) -> None:
        folder, began = self._folder(taken.number), time.monotonic()
        again = ", begun anew" if taken.again else ""
        try:
            self._remove(taken.number)
            make_folder(folder.parent)
        except OSError as error:
            self.study.release(taken)
            raise SaveError(f"cannot write to {str(folder.parent)!r}: {error.strerror or error}.") from None
        self.display.note(f"trial {taken.number}{self._of_all}{again}: {settings_told(taken.settings)}")
        steps = _Steps(self.display)
        asked = _Asked(self.study)
        try:
            with self.study.held(taken):
                result = self.rows.train(
                    taken.settings, out=folder, on_evaluation=asked, seconds=seconds, display=steps
                )
        except (Interrupted, KeyboardInterrupt):
            self.study.release(taken)
            raise
        except StudyError:
            raise
        except Exception as error:
            self._failed(taken, reason_of(error), time.monotonic() - began)
            return
        if result.pruned:
            self.study.pruned(taken, result, asked.curve, reason=asked.reason)
            self.display.note(f"trial {taken.number} was given up: {asked.reason}")
        elif not math.isfinite(result.score):
            self._failed(taken, "its score is not a number", result.seconds)
        else:
            self._complete(taken, result, asked.curve)

    def _complete(self, taken: Taken, result: TrialResult, curve: Mapping[int, float]) -> None:
        self.study.complete(taken, result, curve)
        ended = [record for record in self.study.records() if record.score is not None]
        best = max(ended, key=lambda record: (record.score, -record.number))
        standing = "the best so far" if best.number == taken.number else f"trial {best.number} has {best.score:.4f}"
        self.display.note(f"trial {taken.number} reached {result.score:.4f} in {result.seconds:.1f} s ({standing})")

    def _failed(self, taken: Taken, reason: str, seconds: float) -> None:
        self._remove(taken.number)
        self.study.failed(taken, reason=reason, seconds=seconds)
        self.display.note(f"trial {taken.number} failed: {reason}")

    def _time(self, records: Sequence[TrialRecord]) -> tuple[bool, float | None]:
        if not records or records[0].state == "running":
            return True, self.times.of_default(alone=self.wanted.trials == 1)
        return self.times.of_next(records)

    def _all_failed(self, records: Sequence[TrialRecord]) -> bool:
        return len(records) >= MOST_FAILED and all(record.state == "failed" for record in records)

    def _say_how_far(self, records: Sequence[TrialRecord]) -> None:
        most, count = self.wanted.trials, len(records)
        if most is not None and count < most and not self._all_failed(records):
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

    def _tidy(self) -> None:
        """Removes the models of all trials that ended, but those that are kept."""
        records = self.study.records()
        best = sorted((r for r in records if r.score is not None), key=lambda record: (-(record.score or 0.0), record.number))
        kept = {0, *(record.number for record in best[: self.wanted.keep])}
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
            if left.fullmatch(path.name) and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif left.fullmatch(path.name):
                path.unlink(missing_ok=True)

    @property
    def _of_all(self) -> str:
        return f" of 0 … {self.wanted.trials - 1}" if self.wanted.trials else ""


class _Steps(Display):
    """Shows the steps of a trial; what it notes was noted by the first one, or is about its settings alone."""

    def __init__(self, display: Display) -> None:
        self._display = display

    def step(self, info: StepInfo) -> None:
        self._display.step(info)


class _Asked:
    """What a trial asks after each evaluation: whether it is given up. curve: percent of the run → score."""

    def __init__(self, study: KeptStudy) -> None:
        self.study, self.reason = study, ""
        self.curve: dict[int, float] = {}

    def __call__(self, entry: Mapping[str, Any]) -> bool:
        if not math.isfinite(entry["score"]):
            return False
        self.curve[round(100 * entry["progress"])] = float(entry["score"])
        if entry["progress"] >= 1.0:
            return False
        self.reason = self.study.behind(self.curve) or ""
        return bool(self.reason)


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


def _counted(records: Sequence[TrialRecord]) -> str:
    """The reasons, the most frequent first; numbers in them do not part them."""
    reasons = [record.reason or record.state for record in records]
    kinds = Counter(re.sub(r"[\d.]+", "#", reason) for reason in reasons)
    example = {re.sub(r"[\d.]+", "#", reason): reason for reason in reversed(reasons)}
    return "; ".join(first_of(f"{count} × {example[kind]}" for kind, count in kinds.most_common()))


@contextmanager
def resumable(study: KeptStudy, how: str) -> Iterator[None]:
    """Whatever the user stops is told as what is kept and how to go on.

    how: options with which the same call goes on.
    """
    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        ended = sum(record.state != "running" for record in study.records())
        raise Interrupted(
            f"stopped; {ended} trial{'s' if ended != 1 else ''} of the study {study.name!r} {'are' if ended != 1 else 'is'} kept.",
            hint=f"Go on with the same call and {how}.",
        ) from None


def record_of(
    study: KeptStudy, found: Found, *, rows: Mapping[str, int], metric: str, cross_validated: bool, seconds: float
) -> StudyRecord:
    """The study as it is reported."""
    return StudyRecord(
        name=study.name, metric=metric, trials=study.records(), space=study.space.to_list(),
        importances=study.importances(), best=found.best, kept=found.kept, gain=found.gain,
        cross_validated=cross_validated, rows=rows, seed=study.seed, seconds=seconds,
    )  # fmt: skip


def gain_told(record: StudyRecord) -> list[str]:
    """What was gained over saying nothing, for people."""
    trials = {trial.number: trial for trial in record.trials}
    best, default, gain = trials[record.best], trials[0], record.gain
    scores = f"{record.metric} {best.score:.4f}" if best.score is not None else record.metric
    if default.score is None:
        return [f"trial {best.number} is the best ({scores}); the default failed: {default.reason}"]
    if best.number == 0:
        return [f"nothing was gained: of {len(trials)} trials none beats the default ({scores}), which is kept"]
    lines = [f"trial {best.number} is the best: {scores}, the default has {default.score:.4f}"]
    if gain is not None:
        lines.append(
            f"on {gain.rows} rows that chose nothing it differs by {gain.difference:+.4f} (90 % interval {gain.low:+.4f} to "
            f"{gain.high:+.4f}); it is the better one in {gain.share_better:.0%} of the resamples: "
            + ("it is kept" if record.kept else "nothing was gained that these rows can show, the default is kept")
        )
    return lines


Save = Callable[[Path, Mapping[str, Any]], None]
"""Writes the final model: from a model folder, with what its description says of the study."""
