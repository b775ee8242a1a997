"""The trials of a study: trainings of one model's rows with other settings, each through the one ``fit``.

The rows are read, checked and split once, by the caller, and encoded once for all trials whose settings do not change
how. No trial sees the test rows. What a trial's score rests on:

- validation rows: the half of them that chooses the weights (``MeasuredRows.choosing``), at the best weights. The other
  half chose nothing, and says in the end what was gained (``gain``).
- few rows of which some were held out: cross-validation (``trial_folds``), the same folds for all trials. Half of the
  answers are the score, the other half chose nothing.
"""

from __future__ import annotations

import gc
import math
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from polydetr.config.sections import Config
from polydetr.core.files import save_json
from polydetr.engine.engine import Engine
from polydetr.errors import Interrupted, PolydetrError
from polydetr.modalities.base import Notify
from polydetr.model.build import build_tasks
from polydetr.model.folder import save_folder
from polydetr.schema.spec import Schema
from polydetr.tasks.capabilities import HasPositive
from polydetr.training.budget import Budget
from polydetr.training.callbacks import Display, Pruned
from polydetr.training.checkpoint import Checkpoints, checkpoint_of
from polydetr.training.encode import MIN_PARTED, EncodedRows, MeasuredRows, Splits
from polydetr.training.fit import Trained, fit
from polydetr.training.objective import score_name
from polydetr.training.report import write_run_reports
from polydetr.training.run import Encode, Hooks
from polydetr.training.shared_encodings import SharedEncodings
from polydetr.training.tracked import records_of
from polydetr.training.tracking import Both, Trackers, tracked
from polydetr.training.trial_folds import Answers, Fold, halves, make_folds
from polydetr.training.trial_settings import with_settings

REPORT, JUDGED = "reports/cross_validation.json", "judged"
"""Where the model folder of a trial that was cross-validated says so, and the key of the answers that chose nothing."""
LEAST_SECONDS = 1.0
"""That a training is given however little is left: some steps come of it."""
_TIMED = 50
"""Rows that show how long answering takes."""
Asked = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True)
class TrialResult:
    """What came of a trial. score: mean of the targets' first metrics, higher is better; the best one so far where it
    was pruned. metrics: of the same rows, by target. curve: (step, score) of each evaluation. seconds: of all of it.
    """

    score: float
    metrics: Mapping[str, Mapping[str, float]]
    curve: Sequence[tuple[int, float]]
    steps: int
    seconds: float
    pruned: bool


class SharedRows:
    """The rows of a study, encoded once for all trials that share their encoding.

    config: as it is where nothing is varied; splits: what ``read_splits`` gave for it; notify: takes messages.
    """

    def __init__(self, config: Config, schema: Schema, splits: Splits, *, notify: Notify) -> None:
        self.config, self.schema, self.splits, self.notify = config, schema, splits, notify
        self.encodings = SharedEncodings()
        self._tasks = build_tasks(config, schema, splits.train, notify=lambda message: None)
        # Half of the validation rows where a target is measured among all of them at once (an embedding's): there none
        # of those that a trial sees is left out when it chooses its weights.
        among_all = any(isinstance(task, HasPositive) for task in self._tasks.values())
        self.withheld = (
            halves(splits.valid, seed=config.seed)[1] if among_all and len(splits.valid) >= MIN_PARTED else []
        )
        self.folds: Sequence[Fold] = [] if among_all else make_folds(config, schema, splits, self._tasks)
        self._best = float("-inf")
        self._answering = 0.0
        if self.folds:
            notify(
                f"{len(splits.given)} rows are few: a trial's score is cross-validated over {len(self.folds)} folds, "
                "the same for all"
            )

    @property
    def metric(self) -> str:
        """What a score is: "label accuracy", or "mean of label accuracy and …"."""
        return score_name(self._tasks)

    @property
    def is_cross_validated(self) -> bool:
        return bool(self.folds)

    def train(
        self, settings: Mapping[str, Any], *, out: Path, on_evaluation: Asked = lambda entry: False,
        seconds: float | None = None, display: Display | None = None, group: str | None = None,
    ) -> TrialResult:  # fmt: skip
        """One trial; its model is saved in the folder ``out``. Whatever ends it early leaves nothing there.

        settings: dotted key → value, laid over the configuration. on_evaluation: gets each evaluation as the history
        keeps it ("step", "progress" of 0 … 1, "score" ...), after which the trial goes on unless it answers True; where
        trials are cross-validated, after each fold. seconds: the time of this trial, within which its steps end. group:
        the study that trackers file it under.

        Raises:
            PolydetrError, MemoryError ...: what ended the training. Interrupted: by the user.
        """
        return _Trial(self, with_settings(self.config, settings), out, on_evaluation, seconds, display, group).run()

    def is_best(self, score: float) -> bool:
        """Whether no trial before had a higher score; remembers it."""
        best, self._best = self._best, max(self._best, score)
        return score > best

    def seconds_to_compare(self) -> float:
        """About how long two models answer the validation rows, and one those of the test, in the pace of a trial that
        had a time limit; 0 before there was one.
        """
        count = (0 if self.folds else 2 * len(self.splits.valid)) + len(self.splits.test or ())
        return self._answering * count

    def time_answers(self, engine: Engine, rows: MeasuredRows) -> None:
        """Measures that pace, once, on a few of the rows: encoding and answering them."""
        if self._answering or rows.is_unseen:  # these are not answered by the model itself
            return
        some = rows.records[:_TIMED]
        began = time.monotonic()
        deque(engine.answered(engine.encode(some)), maxlen=0)
        self._answering = (time.monotonic() - began) / len(some)

    def of_a_trial(self) -> Splits:
        """The rows as a trial gets them, to change as it likes: without those of the test, and what is withheld."""
        given, away = self.splits, {id(record) for record in self.withheld}
        valid = [record for record in given.valid if id(record) not in away]
        return replace(given, train=[*given.train], valid=valid, test=None, rejected=[*given.rejected])


class _Told(Display):
    """Tells what it is told, and shows nothing else."""

    def __init__(self, notify: Notify) -> None:
        self._notify = notify

    def note(self, message: str) -> None:
        self._notify(message)


class _Trial:
    """One training, or several of them."""

    def __init__(
        self, rows: SharedRows, config: Config, out: Path, on_evaluation: Asked, seconds: float | None,
        display: Display | None, group: str | None,
    ) -> None:  # fmt: skip
        self.rows, self.config, self.out, self.asked = rows, config, out, on_evaluation
        self.seconds, self.display, self.group = seconds, display or Display(), group
        self.began = time.monotonic()
        self.entries: list[Mapping[str, Any]] = []
        self.answers = Answers(config.seed)
        self.steps = 0

    def run(self) -> TrialResult:
        try:
            with no_checkpoint_left(self.out), self._tracked() as trackers:
                best, pruned = self._run(trackers), False
        except Pruned:
            best, pruned = max(self.entries, key=lambda entry: entry["score"]), True
        curve = [(entry["step"], entry["score"]) for entry in self.entries] or [(self.steps, best["score"])]
        steps, seconds = max(self.steps, curve[-1][0]), time.monotonic() - self.began
        return TrialResult(best["score"], best["metrics"], curve, steps, seconds, pruned)

    def _tracked(self) -> AbstractContextManager[Trackers]:
        """The trackers of this trial. It is dated: one that was stopped is begun anew, with a record of its own."""
        name = f"{self.out.name}-{datetime.now():%Y%m%d-%H%M%S}"
        display = _Told(self.rows.notify)
        return tracked(self.config, self.out.parent, display=display, name=name, group=self.group)

    def _run(self, trackers: Trackers) -> Mapping[str, Any]:
        """Trains and saves; the score with its metrics."""
        folds = self.rows.folds
        trained = self._fit(
            self.rows.of_a_trial(), Both(self.display, trackers), runs=1 + len(folds),
            on_evaluation=(lambda entry: False) if folds else self._goes_wrong, measured=self._measured,
        )  # fmt: skip
        tasks, unseen = trained.assembly.engine.tasks, bool(self.answers.documents)
        for number, fold in enumerate([] if unseen else folds):
            self._answer(fold, runs=len(folds) - number)
            entry = {"step": self.steps, "progress": (number + 1) / len(folds), **self.answers.scored(tasks)}
            if self._goes_wrong(entry):
                raise Pruned
        best: Mapping[str, Any]
        judged = None
        if self.answers.documents:
            best, judged = self.answers.scored(tasks), self.answers.judged(tasks)
        else:
            best = next(e for e in trained.history if e["step"] == trained.info["training"]["best_step"])
        if not math.isfinite(best["score"]):
            raise PolydetrError(f"the score is not a number ({best['score']})", hint="Lower training.lr.")
        # The figures of a trial that is not the best one would be drawn for nobody.
        drawn = replace(trained, draws=trained.draws and self.rows.is_best(best["score"]))
        _save(self.out, drawn, None if judged is None else {**best, "folds": len(folds), JUDGED: judged})
        trackers.records(records_of(trained, self.out))
        return best

    def _fit(
        self, splits: Splits, display: Display, *, runs: int, on_evaluation: Asked,
        measured: Callable[[Engine, MeasuredRows], None] = lambda engine, rows: None, encode: Encode | None = None,
    ) -> Trained:  # fmt: skip
        """One of the ``runs`` trainings that are left, in its part of the time."""
        limit, budget = None, None
        if self.seconds is not None:
            now = time.monotonic()
            limit = max(LEAST_SECONDS, (self.seconds - (now - self.began)) / runs)
            budget = Budget(limit, now)
        hooks = Hooks(
            encode=encode or self.rows.encodings.encode, with_features=self.rows.encodings.with_features,
            on_evaluation=on_evaluation, plans=False, measured=measured,
        )  # fmt: skip
        config = self.config.model_copy(update={"time_limit": limit})
        trained = fit(
            config, self.rows.schema, splits, out=self.out, resume=False, display=display, budget=budget, hooks=hooks
        )
        trained.checkpoints.discard()
        if trained.failure is not None:
            raise trained.failure
        self.steps += trained.info["training"]["steps"]
        return trained

    def _answer(self, fold: Fold, *, runs: int) -> None:
        """Trains on the other rows, and answers those of the fold."""
        held: list[MeasuredRows] = []

        def encode(engine: Engine, splits: Splits, config: Config, data_hash: str, *, notify: Notify) -> EncodedRows:
            rows, test = self.rows.encodings.encode_apart(engine, splits, config, data_hash, notify=notify)
            held.extend([test] if test is not None else [])
            return rows

        trained = self._fit(fold.splits(), Display(), runs=runs, on_evaluation=lambda entry: False, encode=encode)
        for rows in held:
            self.answers.add(trained.assembly.engine, rows)

    def _measured(self, engine: Engine, rows: MeasuredRows) -> None:
        self.answers.add_unseen(engine, rows)
        if self.seconds is not None:
            self.rows.time_answers(engine, rows)

    def _goes_wrong(self, entry: Mapping[str, Any]) -> bool:
        self.entries.append(entry)
        return self.asked(entry)


@contextmanager
def no_checkpoint_left(out: Path) -> Iterator[None]:
    """Whatever ends the block, no checkpoint is left beside ``out``, and no model in memory."""
    try:
        yield
    except (KeyboardInterrupt, Interrupted) as error:
        _let_go(error)
        raise Interrupted("stopped: nothing is kept of the training under way.") from None
    except Exception as error:
        _let_go(error)
        raise
    finally:
        Checkpoints(checkpoint_of(out)).discard()
        gc.collect()  # modules refer to one another
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _let_go(error: BaseException | None) -> None:
    """Frees what the frames of an error hold, such as a model, for as long as the error is known."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


def _save(out: Path, trained: Trained, cross_validation: Mapping[str, Any] | None) -> None:
    """The model folder. cross_validation: goes into its reports. Raises SaveError."""
    runner = trained.assembly.runner
    assert runner.masters is not None  # it was trained

    def reports(folder: Path) -> None:
        if cross_validation is not None:
            (folder / REPORT).parent.mkdir(exist_ok=True)
            save_json(folder / REPORT, cross_validation)
        write_run_reports(folder, trained)

    save_folder(out, trained.assembly.engine, runner.masters.tensors(), trained.info, extra=reports)
