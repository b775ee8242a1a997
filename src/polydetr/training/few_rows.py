"""Classification from few rows over a pretrained backbone: nothing is held out, everything is cross-validated.

1. The rows are dealt into folds. On the features of the frozen backbone a logistic regression is chosen: its strength,
   and whether the names of the classes are rows too.
2. For each fold the backbone is tuned on the other rows (``contrastive``), and after some epochs its features are tried
   in the same way. The number of epochs that answers held-out rows best is kept; 0 where the frozen features are best.
3. Unlabelled rows become rows where their answers are believed, if that helps held-out rows (``self_training``).
4. All this once more with all rows, into the model. It is measured and calibrated by the held-out answers of 2 and 3.

What is tried is bounded by the pace that is measured: ``SECONDS`` of the machine's cores.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from polydetr.config.sections import Config
from polydetr.core.documents import EncodedDocument
from polydetr.core.examples import Example
from polydetr.heads.classification import ClassificationHead
from polydetr.model.build import Assembly
from polydetr.tasks.classification import ClassificationTask
from polydetr.training.contrastive import learned_below_heads, put_back, tune_backbone
from polydetr.training.encode import Splits
from polydetr.training.head_start import labels_of, pooled_features, set_head
from polydetr.training.linear_head import (
    STRENGTHS,
    Array,
    Chosen,
    Features,
    Recipe,
    choose_head,
    parted,
    stratified_folds,
)
from polydetr.training.loop import Display
from polydetr.training.self_training import SelfTraining, choose_self_training

MOST_PER_CLASS = 64
"""Rows of a class, on average, up to which rows count as few."""
SECONDS = 50.0
"""That tuning may take on all cores of the machine, unless a time limit leaves less."""
MOST_UNLABELLED = 2000
"""Unlabelled rows that are read at most."""
_FOLDS = 4
_MARKS = (1, 2, 4, 8, 16, 24)
"""Epochs after which the features are tried."""
_PASSES_OF_AN_EPOCH = 2.5
"""Forward passes over all rows that take as long as an epoch over three quarters of them, at least."""
_NAME_WEIGHT = 3.0
_MOST_LABELS = 100_000
"""Rows times classes up to which every strength is tried, not every second one: a regression takes as long."""


def has_few_rows(config: Config, assembly: Assembly, splits: Splits) -> bool:
    """Whether the run is one for this module: a single target of classes over a pretrained backbone, with 2 to
    ``MOST_PER_CLASS`` rows per class on average, and settings that leave the way of training open
    (``training.few_rows``).
    """
    settings, tasks = config.training, list(assembly.engine.tasks.values())
    if len(tasks) != 1 or not isinstance(tasks[0], ClassificationTask):
        return False
    if not any(m.is_pretrained for m in assembly.engine.encoder.modalities.values()):
        return False
    if settings.few_rows is not None:
        return settings.few_rows
    if settings.freeze_backbones or settings.lora.rank or settings.devices > 1 or config.group is not None:
        return False
    rows, classes = len(splits.given), len(tasks[0].labels)
    says_epochs = config.steps is None  # a preset has both; whoever names epochs gets these
    return not says_epochs and 2 * classes <= rows <= MOST_PER_CLASS * classes


@dataclass(frozen=True)
class FewRows:
    """What came of it. logits (documents, C): of each row by a model that had not seen it. history: an entry per number
    of epochs tried, as learning curves show it.
    """

    logits: Array
    epochs: int
    tokens: int
    seconds: float
    history: list[dict[str, Any]]


def train_few_rows(
    assembly: Assembly, documents: Sequence[EncodedDocument], unlabelled: Sequence[EncodedDocument] = (), *,
    seed: int, seconds: float | None, display: Display,
) -> FewRows:  # fmt: skip
    """Trains the model in place. documents: the labeled rows, one each; seconds: what is left of a time limit."""
    return _Training(assembly, documents, unlabelled, seed, seconds, display).run()


class _Training:
    def __init__(
        self, assembly: Assembly, documents: Sequence[EncodedDocument], unlabelled: Sequence[EncodedDocument],
        seed: int, seconds: float | None, display: Display,
    ) -> None:  # fmt: skip
        self.assembly, self.runner, self.model = assembly, assembly.runner, assembly.model
        (self.target,) = assembly.engine.tasks
        head = self.model.head_of(self.target)
        assert isinstance(head, ClassificationHead)
        self.head, self.seed, self.display = head, seed, display
        self.all = [list(document.examples) for document in documents]
        # A row's windows have one label; the mean of their logits is the logit of their mean.
        self.known, self.labels = labels_of(head, self.target, [windows[0] for windows in self.all])
        self.rows = [self.all[i] for i in self.known]
        self.more = [list(document.examples) for document in unlabelled]
        self.names = _class_names(assembly, self.target)
        self.folds = _copies_together(stratified_folds(self.labels, _FOLDS, seed=seed), self.rows)
        self.started = time.monotonic()
        self.clock = _Clock(seconds)
        self.history: list[dict[str, Any]] = []
        self.frozen: Recipe | None = None
        self.tokens = 0

    def run(self) -> FewRows:
        pretrained = learned_below_heads(self.model)
        self.clock.start()
        frozen = self._features()
        self.clock.took_a_pass()
        tried = {0: [frozen] * len(np.unique(self.folds))}
        chosen = {0: self._choose(0, tried[0])}
        for fold in range(len(tried[0])):
            self._tune_fold(fold, tried)
            put_back(self.model, pretrained)
        # A fold that took too long has fewer epochs than the first one.
        tried = {epochs: folded for epochs, folded in tried.items() if len(folded) == len(tried[0])}
        chosen |= {epochs: self._choose(epochs, folded) for epochs, folded in tried.items() if epochs}
        epochs = min(chosen, key=lambda e: (chosen[e].loss, e))
        best = chosen[epochs]
        believed = None
        if self.more:
            believed = choose_self_training(tried[epochs], self.labels, self.folds, best)
        if epochs:
            self._tune(np.arange(len(self.rows)), epochs, lambda done: True)
        self._set_head(self._features() if epochs else frozen, epochs, best, believed)
        logits = np.zeros((len(self.all), self.head.output.out_features))
        logits[self.known] = (believed.chosen if believed else best).logits
        return FewRows(logits, epochs, self.tokens, time.monotonic() - self.started, self.history)

    # -- the backbone -------------------------------------------------------------------------------------------------

    def _tune_fold(self, fold: int, tried: dict[int, list[Features]]) -> None:
        """Tunes the backbone on the rows outside of the fold, and appends to ``tried`` its features after some epochs:
        in the first fold as many as there is time for in all, then just these.
        """
        rows, _ = list(parted(self.folds))[fold]
        marks = _MARKS if fold == 0 else [epochs for epochs in tried if epochs]
        # The last fit, on all rows, takes somewhat longer than a fold.
        runs = len(tried[0]) + _FOLDS / (_FOLDS - 1)

        def after_epoch(done: int) -> bool:
            if fold == 0 and runs * self.clock.seconds > self.clock.limit:
                return False
            if done in marks:
                tried.setdefault(done, []).append(self._features())
            following = next((mark for mark in marks if mark > done), None)
            if following is None or fold:
                return following is not None
            return runs * following * self.clock.seconds / done <= self.clock.limit

        self.clock.start()
        if marks and runs * _PASSES_OF_AN_EPOCH * self.clock.of_a_pass <= self.clock.limit:
            self._tune(rows, max(marks), after_epoch)

    def _tune(self, rows: np.ndarray, epochs: int, after_epoch: Callable[[int], bool]) -> None:
        """A row's first window stands for it."""
        examples = [self.rows[i][0] for i in rows]
        y = self.labels.of(rows).y
        self.tokens += tune_backbone(self.runner, examples, y, epochs=epochs, seed=self.seed, after_epoch=after_epoch)

    def _features(self) -> Features:
        """By the backbone as it is now."""
        names = pooled_features(self.runner, self.names) if self.names else None
        return Features(self._of_rows(self.rows), names, self._of_rows(self.more) if self.more else None)

    def _of_rows(self, rows: Sequence[Sequence[Example]]) -> Array:
        """The mean of each row's windows."""
        features = pooled_features(self.runner, [window for windows in rows for window in windows])
        counts = np.array([len(windows) for windows in rows])
        return np.add.reduceat(features, np.cumsum([0, *counts[:-1]])) / counts[:, None]

    # -- the head -----------------------------------------------------------------------------------------------------

    def _choose(self, epochs: int, folded: Sequence[Features]) -> Chosen:
        chosen = self._chosen_head(folded)
        entry = {
            "step": epochs,
            "epoch": float(epochs),
            "seconds": round(time.monotonic() - self.started, 1),
            "train_loss": chosen.train_loss,
            "valid_loss": chosen.loss,
            "metrics": {self.target: {"accuracy": chosen.accuracy}},
            "score": -chosen.loss,
        }
        self.history.append(entry)
        self.display.evaluation(entry)
        return chosen

    def _chosen_head(self, folded: Sequence[Features]) -> Chosen:
        """Of the frozen features, from all recipes; of others, from those near that one."""
        if self.frozen is not None:
            weight, strengths = self.frozen.name_weight, _near(self.frozen.strength)
            return choose_head(folded, self.labels, self.folds, name_weights=[weight], strengths=strengths)
        strengths = STRENGTHS if self.labels.y.size <= _MOST_LABELS else STRENGTHS[1::2]
        chosen = choose_head(
            folded, self.labels, self.folds, name_weights=[_NAME_WEIGHT if self.names else 0.0], strengths=strengths
        )
        if self.names:
            near = _near(chosen.recipe.strength)
            chosen = min(
                chosen, choose_head(folded, self.labels, self.folds, strengths=near), key=lambda found: found.loss
            )
        self.frozen = chosen.recipe
        return chosen

    def _set_head(self, features: Features, epochs: int, best: Chosen, believed: SelfTraining | None) -> None:
        """The last fit, on all rows."""
        if believed is not None:
            head, count = believed.fit(features, self.labels)
            self.display.note(
                f"{count} of {len(self.more)} unlabelled rows became training rows: their answers are right with a "
                f"probability of {believed.least:.2f} or more, and held-out rows are answered better so"
            )
            best = believed.chosen
        else:
            head = best.recipe.fit(features, self.labels)
            if self.more:
                self.display.note(
                    f"{len(self.more)} unlabelled rows were left aside: held-out rows are answered no better with them"
                )
        set_head(self.head, head)
        how = f"backbone tuned for {epochs} epochs on pairs" if epochs else "backbone as it is"
        names = ", with the names of the classes as rows" if best.recipe.name_weight else ""
        self.display.note(
            f"few rows: by cross-validation, {how}, then a logistic regression (C = {best.recipe.strength:g}){names}; "
            f"accuracy {best.accuracy:.3f} on held-out rows (training.few_rows: false trains in the usual way)"
        )


def _copies_together(folds: np.ndarray, rows: Sequence[Sequence[Example]]) -> np.ndarray:
    """The folds, with rows that the model cannot tell apart in one: a copy of a row would answer it by heart."""
    first: dict[bytes, int] = {}
    together = folds.copy()
    for number, windows in enumerate(rows):
        arrays = [array for window in windows for arrays in window.groups.values() for array in arrays.values()]
        key = hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).digest()
        together[number] = folds[first.setdefault(key, number)]
    return together if len(np.unique(together)) > 1 else folds


def _near(strength: float) -> Sequence[float]:
    """The strength and those beside it."""
    place = STRENGTHS.index(strength)
    return STRENGTHS[max(0, place - 1) : place + 2]


class _Clock:
    """Seconds of the machine's cores, which other programs do not make longer; of the clock on the wall where a time
    limit leaves ``left`` of them.
    """

    def __init__(self, left: float | None) -> None:
        self.limit = SECONDS if left is None else min(SECONDS, left)
        self._by_wall = left is not None
        self.of_a_pass = 0.0
        self.start()

    def start(self) -> None:
        self._began = self._now()

    def took_a_pass(self) -> None:
        """What was timed since the start is one forward pass over all rows."""
        self.of_a_pass = self.seconds

    @property
    def seconds(self) -> float:
        return self._now() - self._began

    def _now(self) -> float:
        return time.monotonic() if self._by_wall else time.process_time() / torch.get_num_threads()


def _class_names(assembly: Assembly, target: str) -> list[Example]:
    """The names of the classes, each as a row; none where the model reads other things than text, or the classes have
    numbers for names.
    """
    modalities, task = assembly.engine.encoder.modalities, assembly.engine.tasks[target]
    assert isinstance(task, ClassificationTask)
    names = [re.sub(r"[\W_]+", " ", label).strip() for label in task.labels]
    if list(modalities) != ["text"] or not all(re.search(r"[^\W\d]", name) for name in names):
        return []
    reader = modalities["text"].over(["label"])
    return [Example({"text": reader.encode([{"label": name}]).windows[0].arrays}) for name in names]
