"""After the training: temperatures and thresholds, chosen on the validation rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from polydetr.core.predictions import Evaluation, RowResult
from polydetr.engine.engine import Engine
from polydetr.engine.measure import evaluate_results, with_coverage
from polydetr.engine.mistakes import with_mistakes
from polydetr.metrics.calibration import fit_temperature
from polydetr.modalities.base import Notify
from polydetr.model.build import Assembly
from polydetr.nn.batch import Batch
from polydetr.tasks.base import Task
from polydetr.tasks.capabilities import Conforms, Judged, Tunes
from polydetr.tasks.confidence import MIN_ANSWERS, Calibration
from polydetr.training.encode import MeasuredRows, measure


def calibrate(
    assembly: Assembly, valid: MeasuredRows, *, notify: Notify
) -> tuple[dict[str, Evaluation], dict[str, Evaluation]]:
    """Fits each task's temperature (Guo et al. 2017, arXiv 1706.04599), thresholds, and the probability that an answer
    is right; evaluations before and after.

    Temperatures and probabilities rest on ``valid.calibrating`` rows; thresholds of answers on all rows.
    """
    engine = assembly.engine
    before_results, pairs = _listen(assembly, valid)
    before = evaluate_results(engine, before_results, positives=valid.positives)
    measured = {target: task for target, task in engine.tasks.items() if target in before}
    for target, task in measured.items():
        if sum(len(labels) for _, labels in pairs[target]) >= MIN_ANSWERS:
            logits = _stack([logits for logits, _ in pairs[target]])
            labels = torch.cat([labels for _, labels in pairs[target]])
            temperature = fit_temperature(logits.numpy(), labels.numpy())
            # Without a single mistake the likelihood only grows with the confidence: no row shows overconfidence.
            faultless = bool((logits.argmax(-1) == labels).all())
            task.temperature = max(1.0, temperature) if faultless else temperature
    results = list(engine.answered(valid.documents))
    tuned = {target: task for target, task in measured.items() if isinstance(task, Tunes)}
    for target, task in tuned.items():
        for message in task.tune([r.predictions[target] for r in results], [r.golds[target] for r in results]):
            notify(message)
    if any(task.tunes_answers for task in tuned.values()):
        results = list(engine.answered(valid.documents))
    rested = [result for result, calibrates in zip(results, valid.calibrating, strict=True) if calibrates]
    for task in engine.tasks.values():
        for message in _fit_confidence(task, rested, apart=valid.is_parted, unseen=valid.is_unseen):
            notify(message)
    if any(
        isinstance(task, Conforms) or (isinstance(task, Judged) and task.rescales) for task in engine.tasks.values()
    ):
        results = list(engine.answered(valid.documents))
    after = with_coverage(engine, results, evaluate_results(engine, results, positives=valid.positives))
    after = with_mistakes(engine, results, after)
    for target, task in measured.items():
        if "ece" in before[target].metrics:
            ece = " → ".join(f"{evaluations[target].metrics['ece']:.4f}" for evaluations in (before, after))
            notify(f"calibration of {target!r}: temperature {task.temperature:.3f}, ECE {ece} (validation rows)")
    return before, after


def _listen(assembly: Assembly, valid: MeasuredRows) -> tuple[list[RowResult], dict[str, list[tuple[Tensor, Tensor]]]]:
    """The answers to all rows; and target → logits and labels of the windows of rows that calibrate."""
    engine = assembly.engine
    pairs: dict[str, list[tuple[Tensor, Tensor]]] = {target: [] for target in engine.tasks}

    def collect(outputs: Mapping[str, Mapping[str, Tensor]], batch: Batch) -> None:
        for target in engine.tasks if batch.targets else ():
            pair = assembly.model.head_of(target).calibration_pairs(outputs[target], batch.targets[target])
            if pair is not None:
                pairs[target].append((pair[0].cpu(), pair[1].cpu()))

    listening = engine.with_runner(assembly.runner.listened_by(collect))
    if not valid.is_parted:
        return list(listening.answered(valid.documents)), pairs
    halves = list(engine.answered(valid.documents[::2])), list(listening.answered(valid.documents[1::2]))
    ordered = (iter(halves[0]), iter(halves[1]))
    return [next(ordered[int(calibrates)]) for calibrates in valid.calibrating], pairs


def _fit_confidence(task: Task, results: Sequence[RowResult], *, apart: bool, unseen: bool) -> list[str]:
    """Learns when to believe the task's answers; returns what that rests on, as messages."""
    predictions, golds = [r.predictions[task.target] for r in results], [r.golds[task.target] for r in results]
    if isinstance(task, Conforms):
        return task.conform(predictions, golds)
    if not isinstance(task, Judged):
        return []
    labeled = [(p, gold) for p, gold in zip(predictions, golds, strict=True) if gold is not None]
    answers = [answer for p, gold in labeled for answer in task.judge(p, gold)]
    if not answers:
        return []
    task.calibration = Calibration.fit(answers, rescale=task.rescales, rows=len(labeled), apart=apart or unseen)
    if unseen:
        how = "each of which a model answered that had not seen it"
        return [f"confidence in {task.target!r} rests on {len(answers)} answers to {len(labeled)} rows, {how}"]
    how = "that did not choose the weights" if apart else "that also chose the weights: they are too few to part"
    return [f"confidence in {task.target!r} rests on {len(answers)} answers to {len(labeled)} validation rows {how}"]


MAX_ROWS = 2000
"""Validation rows at most by which a precision is proved."""


def proving_rows(valid: MeasuredRows) -> MeasuredRows:
    """Validation documents at equal distances, ``MAX_ROWS`` at most."""
    return valid.every(max(1, -(-len(valid.documents) // MAX_ROWS)))


def measure_precision(engine: Engine, rows: MeasuredRows) -> tuple[dict[str, float], np.ndarray]:
    """What ``choose_for_prediction`` compares two precisions by: each target's main metric, and each prediction's
    probability (0 where the task gives none).

    Raises:
        SchemaError: no row has a label of some target.
    """
    results, evaluations = measure(engine, rows)
    metrics = {t: float(e.metrics[engine.tasks[t].primary_metric]) for t, e in evaluations.items()}
    return metrics, np.array([p.probability or 0.0 for r in results for p in r.predictions.values()])


def _stack(logits: Sequence[Tensor]) -> Tensor:
    """(N, C) from batches whose C may differ (positions in windows): missing columns are impossible classes."""
    width = max(t.shape[1] for t in logits)
    return torch.cat([torch.nn.functional.pad(t, (0, width - t.shape[1]), value=-1e4) for t in logits])
