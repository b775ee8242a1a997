"""Cross-validation of a trial's settings where rows are few: the same folds for all trials, and their answers.

A fold is a whole training on the other rows, of which a part chooses the weights, as ``fit`` does with all rows. Its
own rows are answered by the model that comes of it, which nothing of them has touched. The answers of all folds are put
together and dealt out: one of every two documents for the score by which trials are compared, the other for ``gain``.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from polydetr.config.sections import Config
from polydetr.core.predictions import RowResult
from polydetr.core.records import Record
from polydetr.data.splits import Holding, split_records
from polydetr.engine.engine import Engine
from polydetr.errors import SchemaError
from polydetr.schema.spec import Schema
from polydetr.tasks.base import Task
from polydetr.tasks.classification import ClassificationTask
from polydetr.training.bootstrap import evaluations_of, resampled_scores
from polydetr.training.encode import MeasuredRows, Splits
from polydetr.training.few_rows import are_few
from polydetr.training.objective import score_of

T = TypeVar("T")
FEW = 300
"""Rows, those held out among them, below which a trial is cross-validated: of 30 rows held out, 15 choose, and the
accuracy of these is known to ± 0.1.
"""
FOLDS, SHARE = 4, 0.2
"""Folds, and the share of the rows that each has. The last fifth is learned from in every fold: rows that no training
can do without, such as the only one of a class, are there.
"""


@dataclass(frozen=True)
class Fold:
    """Rows to learn from, those that choose the weights, and those that are answered."""

    train: Sequence[Record]
    valid: Sequence[Record]
    held: Sequence[Record]

    def splits(self) -> Splits:
        return Splits([*self.train], [*self.valid], [*self.held], is_held_out=True)


def make_folds(config: Config, schema: Schema, splits: Splits, tasks: Mapping[str, Task]) -> list[Fold]:
    """Two or more where rows are few and some of them were held out; otherwise none: the validation rows will do. Few
    are those, too, of which a training may learn that holds none out (``few_rows``): the others are compared with it.
    """
    rows = splits.given
    classes = [len(task.labels) for task in tasks.values() if isinstance(task, ClassificationTask)]
    few = len(rows) < FEW or (len(tasks) == len(classes) == 1 and are_few(len(rows), classes[0]))
    if not splits.is_held_out or not few:
        return []
    folds: list[Fold] = []
    left = rows
    with suppress(SchemaError):  # too few groups for another one
        for number in range(FOLDS):
            holding = Holding.of(schema, rows, group=config.group)
            left, held = split_records(left, SHARE / (1 - SHARE * number), seed=config.seed, holding=holding)
            own = {id(record) for record in held}
            others = [record for record in rows if id(record) not in own]
            fraction = config.training.valid_fraction
            train, valid = split_records(others, fraction, seed=config.seed, holding=holding)
            folds.append(Fold(train, valid, held))
    return folds if len(folds) > 1 else []


def halves(items: Sequence[T], *, seed: int) -> tuple[list[T], list[T]]:
    """Of every two neighbors one here and one there, at random: rows are often in an order. More items that follow
    change nothing for those before.
    """
    rng = random.Random(seed)
    parts: tuple[list[T], list[T]] = ([], [])
    for first in range(0, len(items), 2):
        here = rng.getrandbits(1)
        for place, item in enumerate(items[first : first + 2]):
            parts[(here + place) % 2].append(item)
    return parts


@dataclass
class Answers:
    """Rows answered by models that had not seen them, by document."""

    seed: int
    documents: list[Sequence[RowResult]] = field(default_factory=list)

    def add(self, engine: Engine, rows: MeasuredRows) -> None:
        """The engine's answers to the rows."""
        results = iter(list(engine.answered(rows.documents)))
        self.documents += [[next(results) for _ in document.records] for document in rows.documents]

    def add_unseen(self, engine: Engine, rows: MeasuredRows) -> None:
        """Likewise, where the training itself cross-validated them (``few_rows``)."""
        if rows.is_unseen:
            self.add(engine, rows)

    def scored(self, tasks: Mapping[str, Task]) -> dict[str, Any]:
        """The score of one half, with its metrics, as an evaluation of the loop has them."""
        evaluations = evaluations_of(tasks, halves(self.documents, seed=self.seed)[0])
        metrics = {target: dict(evaluation.metrics) for target, evaluation in evaluations.items()}
        return {"score": score_of(tasks, evaluations), "metrics": metrics}

    def judged(self, tasks: Mapping[str, Task]) -> dict[str, Any]:
        """Of the other half: the rows, their score, and the scores of draws of them (``bootstrap``)."""
        documents = halves(self.documents, seed=self.seed)[1]
        scores = resampled_scores(tasks, documents, seed=self.seed)
        return {
            "rows": sum(map(len, documents)),
            "score": score_of(tasks, evaluations_of(tasks, documents)),
            "resampled": [None if score != score else round(float(score), 6) for score in scores],
        }
