"""Predictions against labels: every task's evaluation of rows already answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from polydetr.core.documents import EncodedDocument
from polydetr.core.predictions import Evaluation, RowResult
from polydetr.core.records import Record
from polydetr.engine.engine import Engine
from polydetr.errors import SchemaError
from polydetr.tasks.base import Task
from polydetr.tasks.capabilities import HasLabels, HasPositive
from polydetr.tasks.figures import BoxFigures


def evaluate_results(
    engine: Engine, results: Sequence[RowResult], *, positives: Mapping[str, Sequence[EncodedDocument]] | None = None
) -> dict[str, Evaluation]:
    """Every task's evaluation of answered rows, where some of them have its label; labels that training never saw stand
    in ``data``, counted.

    positives: what ``encode_positives`` gave for these rows, where they are measured more than once.

    Raises:
        SchemaError: no row has a label of any target.
    """
    evaluations = {}
    for target, task in engine.tasks.items():
        golds = [result.golds[target] for result in results]
        if all(gold is None for gold in golds):
            continue
        if isinstance(task, HasPositive):
            documents = (positives or {}).get(target) or encode_positives(engine, target, golds, results)
            golds = _with_vectors(engine, target, golds, documents)
        evaluation = task.evaluate([r.predictions[target] for r in results], golds)
        if isinstance(evaluation.figures, BoxFigures):  # mistakes are shown in their images
            evaluation = replace(evaluation, figures=evaluation.figures.of_records([r.record for r in results]))
        unseen = unseen_labels(task, golds)
        if unseen:
            evaluation = replace(evaluation, data={**evaluation.data, "unseen_labels": unseen})
        evaluations[target] = evaluation
    if not evaluations:
        raise SchemaError(f"no row has a value of {' or '.join(map(repr, engine.tasks))}: nothing to measure")
    return evaluations


def encode_positives(
    engine: Engine, target: str, golds: Sequence[Any], rows: Sequence[RowResult] | Sequence[Record]
) -> list[EncodedDocument]:
    """The positives of these rows (what an embedding's rows are matched with), encoded, each distinct one once, in the
    order in which they first occur. golds: what the rows' targets hold.
    """
    records = {}
    for gold, row in zip(golds, rows, strict=True):
        if gold is not None:
            records.setdefault(gold.key, row if isinstance(row, Record) else row.record)
    items = engine.of_positives(target).encode(records.values())
    return [item for item in items if isinstance(item, EncodedDocument)]


def _with_vectors(engine: Engine, target: str, golds: Sequence[Any], documents: Sequence[EncodedDocument]) -> list[Any]:
    """The gold values with their vectors."""
    keys = dict.fromkeys(gold.key for gold in golds if gold is not None)
    answers = engine.of_positives(target).answered(documents)
    vectors = {
        key: np.asarray(answer.predictions[target].value, dtype=np.float32)
        for key, answer in zip(keys, answers, strict=True)
    }
    return [None if gold is None else replace(gold, vector=vectors[gold.key]) for gold in golds]


def unseen_labels(task: Task, golds: Sequence[object]) -> dict[str, int]:
    """Labels among ``golds`` that the task does not know, with their counts, the most frequent first."""
    if not isinstance(task, HasLabels):
        return {}
    return dict(Counter(label for gold in golds if gold is not None for label in task.unseen(gold)).most_common())


def unseen_warnings(target: str, evaluation: Evaluation, *, where: str) -> list[str]:
    """A sentence that names the labels which occur in measured rows and were never seen in training."""
    unseen: Mapping[str, int] = evaluation.data.get("unseen_labels") or {}
    if not unseen:
        return []
    shown = ", ".join(f"{label!r} ({count})" for label, count in list(unseen.items())[:10])
    more = f" and {len(unseen) - 10} more" if len(unseen) > 10 else ""
    return [f"{where} have labels of {target!r} that training never saw, so no answer can be right: {shown}{more}"]
