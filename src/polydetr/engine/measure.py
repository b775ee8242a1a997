"""Predictions against labels: every task's evaluation of rows already answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from polydetr.core.documents import EncodedDocument
from polydetr.core.predictions import Evaluation, RowResult
from polydetr.core.records import Record
from polydetr.engine.cautions import baseline_data, score_warnings
from polydetr.engine.engine import Engine
from polydetr.errors import SchemaError
from polydetr.metrics.calibration import (
    accuracy_at,
    coverage_risk_curve,
    coverage_table,
    expected_calibration_error,
    reliability_curve,
)
from polydetr.metrics.figures import BoxFigures
from polydetr.tasks.base import Task
from polydetr.tasks.capabilities import CountsLabels, HasLabels, HasPositive, Judged


def evaluate_results(
    engine: Engine, results: Sequence[RowResult], *, positives: Mapping[str, Sequence[EncodedDocument]] | None = None
) -> dict[str, Evaluation]:
    """Every task's evaluation of rows that were answered with their targets; labels that training never saw stand in
    ``data``, counted. A target without a value in any of the rows is not measured.

    positives: what ``encode_positives`` gave for these rows, where they are measured more than once.

    Raises:
        SchemaError: no target has a value.
    """
    evaluations = {}
    measured = measured_targets({t: [result.golds[t] for result in results] for t in engine.tasks})
    for target, golds in measured.items():
        task = engine.tasks[target]
        if isinstance(task, HasPositive):
            documents = (positives or {}).get(target) or encode_positives(engine, target, golds, results)
            golds = golds_with_vectors(engine, target, golds, documents)
        evaluation = task.evaluate([r.predictions[target] for r in results], golds)
        evaluation = replace(evaluation, data={**evaluation.data, **baseline_data(task, golds)})
        if isinstance(evaluation.figures, BoxFigures):  # mistakes are shown in their images
            evaluation = replace(evaluation, figures=evaluation.figures.of_records([r.record for r in results]))
        unseen = unseen_labels(task, golds)
        if unseen:
            evaluation = replace(evaluation, data={**evaluation.data, "unseen_labels": unseen})
        left_out = left_out_labels(task, [result.record for result in results], golds)
        if left_out:
            evaluation = replace(evaluation, data={**evaluation.data, "left_out": left_out})
        evaluations[target] = evaluation
    if not evaluations:
        raise SchemaError(f"no row has a value of {' or '.join(map(repr, engine.tasks))}: nothing to measure")
    return evaluations


def measured_targets(golds: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """The targets of which some row has a value, with their values. Raises SchemaError where there is none."""
    measured = {target: values for target, values in golds.items() if any(value is not None for value in values)}
    if golds and not measured:
        targets = ", ".join(map(repr, golds))
        raise SchemaError(
            f"no row has a value for target {targets}: nothing to measure.",
            hint="Name rows with labels, or answer them without measuring: predict.",
        )
    return measured


COVERAGES = (0.5, 0.7, 0.9)


def with_coverage(
    engine: Engine, results: Sequence[RowResult], evaluations: Mapping[str, Evaluation]
) -> dict[str, Evaluation]:
    """The evaluations with what answers are worth when the least probable are withheld (``Judged`` tasks): accuracy at
    50, 70 and 90 % coverage, ``aurc``, ``ece`` where the task has none, the coverage-risk curve as table and data, the
    bins of the reliability diagram as data.
    """
    return {t: _with_coverage(engine.tasks[t], results, evaluation) for t, evaluation in evaluations.items()}


def _with_coverage(task: Task, results: Sequence[RowResult], evaluation: Evaluation) -> Evaluation:
    if not isinstance(task, Judged):
        return evaluation
    pairs = [(r.predictions[task.target], r.golds[task.target]) for r in results]
    answers = [answer for p, gold in pairs if gold is not None for answer in task.judge(p, gold)]
    if not answers:
        return evaluation
    confidence, right = [c for c, _ in answers], [r for _, r in answers]
    curve = coverage_risk_curve(confidence, right)
    metrics = {
        **evaluation.metrics,
        # Words have a calibration error of their own beside that of entities.
        f"{task.answer_unit}_ece" if "ece" in evaluation.metrics and task.answer_unit != "row" else "ece": (
            expected_calibration_error(confidence, right)
        ),
        **{f"accuracy_at_{100 * share:.0f}": accuracy_at(curve, share) for share in COVERAGES},
        "aurc": curve.aurc,
    }
    kept = np.unique(np.linspace(0, len(curve.coverage) - 1, min(len(curve.coverage), 101)).astype(int))
    data = {name: getattr(curve, name)[kept].round(6).tolist() for name in ("threshold", "coverage", "risk")}
    bins = reliability_curve(confidence, right)
    reliability = {
        **{name: getattr(bins, name).round(6).tolist() for name in ("confidence", "accuracy", "count")},
        "ece": bins.ece, "answer_unit": task.answer_unit, "answers": len(answers), "right": sum(right),
    }  # fmt: skip
    table = coverage_table(curve, answer_unit=task.answer_unit, total=len(answers))
    return replace(
        evaluation,
        metrics=metrics,
        tables={**evaluation.tables, "coverage": table},
        data={**evaluation.data, "coverage_risk": data, "reliability": reliability},
    )


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


def golds_with_vectors(
    engine: Engine, target: str, golds: Sequence[Any], documents: Sequence[EncodedDocument]
) -> list[Any]:
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


def unmeasured_warnings(targets: Iterable[str], measured: Container[str], *, where: str) -> list[str]:
    """A sentence for each target that is not measured."""
    return [f"{where} have no value of {t!r}: it is not measured there" for t in targets if t not in measured]


def left_out_labels(task: Task, records: Sequence[Record], golds: Sequence[object]) -> list[str]:
    """Sentences about what the labels of measured rows hold and cannot be measured. Raises SchemaError."""
    places = [record.location for record in records]
    return task.left_out(list(zip(places, golds, strict=True))) if isinstance(task, CountsLabels) else []


def unseen_warnings(target: str, evaluation: Evaluation, *, where: str, left_out: bool = True) -> list[str]:
    """A sentence that names the labels which occur in measured rows and were never seen in training, and those about
    what was left out. left_out: False where the latter were told when the rows were encoded.
    """
    lines = [f"{where}: {line}" for line in evaluation.data.get("left_out", ())] if left_out else []
    unseen: Mapping[str, int] = evaluation.data.get("unseen_labels") or {}
    if not unseen:
        return lines
    shown = ", ".join(f"{label!r} ({count})" for label, count in list(unseen.items())[:10])
    more = f" and {len(unseen) - 10} more" if len(unseen) > 10 else ""
    sentence = f"{where} have labels of {target!r} that training never saw, so no answer can be right: {shown}{more}"
    return [sentence, *lines]


def evaluation_warnings(task: Task, evaluation: Evaluation, *, where: str, left_out: bool = True) -> list[str]:
    """What is to be said of a score: labels that training never saw, what was left out, that nothing was learned."""
    return [
        *unseen_warnings(task.target, evaluation, where=where, left_out=left_out),
        *score_warnings(task, evaluation, where=where),
    ]


def label_warnings(target: str, results: Sequence[RowResult], *, where: str) -> list[str]:
    """A sentence on the labels of measured rows that are not quite as they should be, with the first of them."""
    found = dict.fromkeys(f.message for r in results for f in r.warnings if (f.kind, f.column) == ("label", target))
    if not found:
        return []
    return [f"{len(found)} labels of {target!r} in {where} are not as they should be, for example: {next(iter(found))}"]
