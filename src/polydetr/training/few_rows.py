"""Classification from few rows over a pretrained backbone: nothing is held out, everything is cross-validated.

1. The rows are dealt into folds. On the features of the frozen backbone a logistic regression is chosen: its strength,
   and whether the names of the classes are rows too.
2. For each fold the backbone is tuned on the other rows (``contrastive``), and after some epochs its features are tried
   in the same way. The number of epochs that answers held-out rows best is kept; 0 where the frozen features are best.
3. Unlabelled rows become rows where their answers are believed, if that helps held-out rows (``self_training``).
4. All this once more with all rows, into the model. It is measured and calibrated by the held-out answers of 2 and 3.

Where there is no time for that, a fourth of the rows is held out once: the backbone stays as the others tuned it, or as
it was, and then only these rows measure and calibrate.

What is tried is bounded by the pace that is measured: ``SECONDS`` of the machine's cores. A run that is stopped keeps
the folds that are done (``few_watch``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from polydetr.config.sections import Config
from polydetr.core.documents import EncodedDocument
from polydetr.core.examples import Example
from polydetr.errors import ConfigError, quoted
from polydetr.heads.classification import ClassificationHead
from polydetr.model.build import Assembly
from polydetr.tasks.classification import ClassificationTask
from polydetr.training.checkpoint import learning_state
from polydetr.training.contrastive import Step, learned_below_heads, paired_batches, put_back, tune_backbone
from polydetr.training.encode import Splits
from polydetr.training.few_examples import class_names, copies_together
from polydetr.training.few_watch import Tried, Watch
from polydetr.training.head_start import labels_of, pooled_features, set_head
from polydetr.training.linear_head import (
    STRENGTHS,
    Array,
    Chosen,
    Features,
    LinearHead,
    Recipe,
    choose_head,
    parted,
    stratified_folds,
)
from polydetr.training.self_training import SelfTraining, choose_self_training

MOST_PER_CLASS, MOST_ROWS = 64, 400
"""Rows of a class, on average, up to which rows count as few; and in all, however few classes there are."""
SECONDS, SECONDS_FROM_MORE = 50.0, 30.0
"""That tuning may take on all cores of the machine, unless a time limit leaves less: with ``MOST_PER_CLASS`` rows or
fewer, and with more, from which the frozen features alone learn most of what there is to learn."""
MOST_UNLABELLED = 2000
"""Unlabelled rows that are read at most."""
_FOLDS = (4, 2)
"""The rows are dealt into so many; into the smaller number where there is no time for more."""
_ONE_OF, _MARKS_OF_ONE = 4, (1, 2)
"""Where there is no time for these, one of so many is held out, once; the epochs after which it is tried."""
_MARKS = (1, 2, 4, 8, 16, 24)
"""Epochs after which the features are tried."""
_PASSES_OF_A_STEP = 5
"""Forward passes that take as long as a step."""
_NAME_WEIGHT = 3.0
_MOST_LABELS = 100_000
"""Rows times classes up to which every strength is tried, not every second one: a regression takes as long."""


def has_few_rows(config: Config, assembly: Assembly, splits: Splits) -> bool:
    """Whether the run is one for this module: a single target of classes over a pretrained backbone, with few rows
    (``are_few``) that are not beside a table's, whose additive model learns more of them than a regression on pooled
    vectors, and settings that leave the way of training open (``training.few_rows``).

    Raises:
        ConfigError: ``training.few_rows`` is wanted beside groups that are to be kept together.
    """
    settings, tasks = config.training, list(assembly.engine.tasks.values())
    if len(tasks) != 1 or not isinstance(tasks[0], ClassificationTask):
        return False
    if not any(m.is_pretrained for m in assembly.engine.encoder.modalities.values()):
        return False
    if settings.few_rows and config.group is not None:
        raise ConfigError(
            f"training.few_rows = true beside group = {quoted(config.group)}: its folds would part rows of one group, "
            "which then answer for one another.",
            hint="Leave out one of the two: without training.few_rows whole groups are held out.",
        )
    if settings.few_rows is not None:
        return settings.few_rows
    stays = settings.freeze_backbones or settings.freeze_layers or settings.lora.rank
    if stays or settings.devices > 1 or config.group is not None or tasks[0].target in assembly.model.additive:
        return False
    says_epochs = config.steps is None  # a preset has both; whoever names epochs gets these
    return not says_epochs and are_few(len(splits.given), len(tasks[0].labels))


def are_few(rows: int, classes: int) -> bool:
    """2 to ``MOST_PER_CLASS`` rows per class on average, or ``MOST_ROWS`` in all."""
    return 2 * classes <= rows <= max(MOST_ROWS, MOST_PER_CLASS * classes)


def seconds_for(rows: int, classes: int) -> float:
    """That tuning on these may take."""
    return SECONDS if rows <= MOST_PER_CLASS * classes else SECONDS_FROM_MORE


@dataclass(frozen=True)
class FewRows:
    """What came of it. logits (documents, C): of each row by a model that had not seen it, NaN where it had. weights:
    what was learned, by name, in float32.
    """

    logits: Array
    epochs: int
    weights: Mapping[str, Tensor]


def train_few_rows(
    assembly: Assembly, documents: Sequence[EncodedDocument], unlabelled: Sequence[EncodedDocument] = (), *,
    pretrained: Mapping[str, Tensor], seed: int, watch: Watch,
) -> FewRows:  # fmt: skip
    """Trains the model in place, in its precision, and leaves it in float32. documents: the labeled rows, one each;
    pretrained: its ``learned_below_heads`` in float32.

    Raises:
        KeyboardInterrupt: stopped; ``watch`` has the folds that are done.
    """
    return _Training(assembly, documents, unlabelled, pretrained, seed, watch).run()


class _Training:
    def __init__(
        self, assembly: Assembly, documents: Sequence[EncodedDocument], unlabelled: Sequence[EncodedDocument],
        pretrained: Mapping[str, Tensor], seed: int, watch: Watch,
    ) -> None:  # fmt: skip
        self.assembly, self.runner, self.model = assembly, assembly.runner, assembly.model
        (self.target,) = assembly.engine.tasks
        head = self.model.head_of(self.target)
        assert isinstance(head, ClassificationHead)
        self.head, self.pretrained, self.seed, self.watch = head, pretrained, seed, watch
        self.clock, self.display = watch.clock, watch.display
        self.all = [list(document.examples) for document in documents]
        # A row's windows have one label; the mean of their logits is the logit of their mean. The first stands for all.
        first = [replace(windows[0], weight=1.0) for windows in self.all]
        self.known, self.labels = labels_of(head, self.target, first)
        self.rows = [self.all[i] for i in self.known]
        self.more = [list(document.examples) for document in unlabelled]
        self.names = class_names(assembly, self.target)
        self.frozen: Recipe | None = None
        self.once: dict[int, Mapping[str, Tensor]] = {}

    def run(self) -> FewRows:
        self.clock.start()
        frozen = self._features()
        self.clock.took_a_pass()
        self._deal()
        tried: Tried = {0: [frozen] * len(np.unique(self.folds))}
        at_once = self._choose(tried[0], self.folds)
        # What is compared is compared on the same rows.
        chosen = {0: at_once if self.holds_all else at_once.on(self.held, self.labels)}
        self.watch.evaluation(self._entry(0, 0, chosen[0]))
        tried |= self._tuned_in_folds() if self.holds_all else self._tuned_once()
        chosen |= {epochs: self._choose(folded, self.held) for epochs, folded in tried.items() if epochs}
        epochs = min(chosen, key=lambda e: (chosen[e].loss, e))
        best, folds = (chosen[epochs], self.held) if epochs else (at_once, self.folds)
        believed = None
        if self.more:
            believed = choose_self_training(tried[epochs], self.labels, folds, best)
        features = self._learn(tried[epochs][0], epochs, chosen)
        set_head(self.head, self._fit_head(features, epochs, best, believed))
        logits = np.zeros((len(self.all), self.head.output.out_features))
        logits[self.known] = (believed.chosen if believed else best).logits
        return FewRows(logits, epochs, learning_state(self.model))

    def _deal(self) -> None:
        """Deals the rows into folds, as many as there is time for, or holds one out."""
        if self.watch.folds is None:
            self.watch.folds = next((count for count in _FOLDS if self._has_time_for(count)), None)
        folds = stratified_folds(self.labels, self.watch.folds or _ONE_OF, seed=self.seed)
        self.folds = self.held = copies_together(folds, self.rows)
        self.holds_all = self.watch.folds is not None
        if not self.holds_all:
            self.held = np.where(self.folds == self.folds.min(), self.folds, -1)

    def _has_time_for(self, folds: int) -> bool:
        """Whether there is time for one epoch in each of so many folds and in the last fit, each with a look at all
        features; or where they are one, for that without a last fit.
        """
        steps, looks = (folds - 1 + 1, folds + 1) if folds > 1 else ((_ONE_OF - 1) / _ONE_OF, 1)
        return (_PASSES_OF_A_STEP * steps + looks) * self.clock.of_a_pass <= self.clock.limit

    # -- the backbone -------------------------------------------------------------------------------------------------

    def _tuned_in_folds(self) -> Tried:
        """Epochs → the features after so many on the rows outside of each fold: in the first fold as many as there is
        time for in all, then just these.
        """
        tried = self.watch.kept
        count = len(np.unique(self.folds))
        # The last fit, on all rows, takes somewhat longer than a fold.
        runs = count + count / (count - 1)
        for fold in range(len(next(iter(tried.values()), ())), count):
            found = self._tune_fold(fold, list(tried), runs, _MARKS)
            put_back(self.model, self.pretrained)
            if not found:
                return {}
            tried = {epochs: [*tried.get(epochs, ()), features] for epochs, features in found.items()}
            self.watch.keep(tried)
        return tried

    def _tuned_once(self) -> Tried:
        """The same, of the one fold that is held out. What was tuned stays, for want of time for a last fit."""
        if not self._has_time_for(1):
            return {}
        found = self._tune_fold(0, (), 1.0, _MARKS_OF_ONE)
        put_back(self.model, self.pretrained)
        return {epochs: [features] for epochs, features in found.items()}

    def _tune_fold(
        self, fold: int, marks: Sequence[int], runs: float, first_marks: Sequence[int]
    ) -> dict[int, Features]:
        """marks: the epochs to try; none in the first fold, which tries ``first_marks`` as long as there is time for
        ``runs`` times as much in all.
        """
        rows, found = list(parted(self.held))[fold][0], dict[int, Features]()
        first, marks = not marks, marks or first_marks

        def after_epoch(done: int) -> bool:
            if first and runs * self.clock.seconds > self.clock.limit:
                return False
            if done in marks:
                found[done] = self._features()
                if not self.holds_all:
                    self.once[done] = learned_below_heads(self.model)
            following = next((mark for mark in marks if mark > done), None)
            if following is None or not first:
                return following is not None
            return runs * following * self.clock.seconds / done <= self.clock.limit

        self.clock.start()
        self._tune(rows, max(marks), after_epoch)
        return found

    def _tune(self, rows: np.ndarray, epochs: int, after_epoch: Callable[[int], bool]) -> Mapping[str, Tensor]:
        """A row's first window stands for it."""
        examples = [self.rows[i][0] for i in rows]
        began = time.monotonic()

        def after_step(step: Step) -> None:
            nonlocal began
            self.watch.step(step, began=began)
            began = time.monotonic()

        return tune_backbone(
            self.runner, examples, self.labels.of(rows).y, epochs=epochs, seed=self.seed, after_epoch=after_epoch,
            after_step=after_step,
        )  # fmt: skip

    def _features(self) -> Features:
        """By the backbone as it is now."""
        self.watch.check()
        names = pooled_features(self.runner, self.names) if self.names else None
        return Features(self._of_rows(self.rows), names, self._of_rows(self.more) if self.more else None)

    def _of_rows(self, rows: Sequence[Sequence[Example]]) -> Array:
        """The mean of each row's windows."""
        features = pooled_features(self.runner, [window for windows in rows for window in windows])
        counts = np.array([len(windows) for windows in rows])
        return np.add.reduceat(features, np.cumsum([0, *counts[:-1]])) / counts[:, None]

    # -- the head -----------------------------------------------------------------------------------------------------

    def _entry(self, epochs: int, step: int, chosen: Chosen) -> dict[str, Any]:
        """As the history keeps it. step: of the whole run, all folds counted."""
        return {
            "step": step,
            "epoch": float(epochs),
            "seconds": round(self.watch.seconds, 1),
            "train_loss": chosen.train_loss,
            "valid_loss": chosen.loss,
            "metrics": {self.target: {"accuracy": chosen.accuracy}},
            "score": -chosen.loss,
        }

    def _choose(self, folded: Sequence[Features], folds: np.ndarray) -> Chosen:
        """Of the frozen features, from all recipes; of others, from those near that one."""
        if self.frozen is not None:
            weight, strengths = self.frozen.name_weight, _near(self.frozen.strength)
            return choose_head(folded, self.labels, folds, name_weights=[weight], strengths=strengths)
        strengths = STRENGTHS if self.labels.y.size <= _MOST_LABELS else STRENGTHS[1::2]
        chosen = choose_head(
            folded, self.labels, folds, name_weights=[_NAME_WEIGHT if self.names else 0.0], strengths=strengths
        )
        if self.names:
            near = _near(chosen.recipe.strength)
            chosen = min(chosen, choose_head(folded, self.labels, folds, strengths=near), key=lambda found: found.loss)
        self.frozen = chosen.recipe
        return chosen

    def _learn(self, features: Features, epochs: int, chosen: Mapping[int, Chosen]) -> Features:
        """The last fit of the backbone, on all rows; returns its features. What was measured after some epochs is told
        when it has made as many. features: those of the first fold.
        """
        before, state = self.watch.progress.step, self.watch.progress
        per_epoch = len(list(paired_batches(self.labels.y, seed=self.seed, epoch=0)))
        entries = {e: self._entry(e, before + e * per_epoch, chosen[e]) for e in sorted(chosen) if e}

        def after_epoch(done: int) -> bool:
            if done in entries:
                self.watch.evaluation(entries.pop(done))
            return True

        learned = self.once.get(epochs, self.pretrained)
        if epochs and self.holds_all:
            learned = self._tune(np.arange(len(self.rows)), epochs, after_epoch)
            features = self._features()
        for entry in entries.values():
            self.watch.evaluation(entry)
        state.best_step = next(e["step"] for e in state.history if e["epoch"] == epochs)
        self.model.float()
        put_back(self.model, learned)
        return features

    def _fit_head(self, features: Features, epochs: int, best: Chosen, believed: SelfTraining | None) -> LinearHead:
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
        how = f"backbone tuned for {epochs} epochs on pairs" if epochs else "backbone as it is"
        by = "cross-validation" if self.holds_all or not epochs else f"{np.sum(self.held >= 0)} rows held out"
        names = ", with the names of the classes as rows" if best.recipe.name_weight else ""
        self.display.note(
            f"few rows: by {by}, {how}, then a logistic regression (C = {best.recipe.strength:g}){names}; "
            f"accuracy {best.accuracy:.3f} on held-out rows (training.few_rows: false trains in the usual way)"
        )
        return head


def _near(strength: float) -> Sequence[float]:
    """The strength and those beside it."""
    place = STRENGTHS.index(strength)
    return STRENGTHS[max(0, place - 1) : place + 2]
