"""After the training: temperatures and thresholds, chosen on the validation rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from polydetr.core.predictions import Evaluation
from polydetr.engine.engine import Engine
from polydetr.engine.measure import evaluate_results
from polydetr.errors import SchemaError
from polydetr.metrics.calibration import fit_temperature
from polydetr.modalities.base import Notify
from polydetr.model.build import Assembly
from polydetr.nn.batch import Batch
from polydetr.tasks.capabilities import Tunes
from polydetr.training.encode import MeasuredRows, measure


def calibrate(
    assembly: Assembly, valid: MeasuredRows, *, notify: Notify
) -> tuple[dict[str, Evaluation], dict[str, Evaluation]]:
    """Fits each task's temperature (Guo et al. 2017, arXiv 1706.04599) and thresholds; evaluations before and after."""
    engine = assembly.engine
    pairs: dict[str, list[tuple[Tensor, Tensor]]] = {target: [] for target in engine.tasks}

    def collect(outputs: Mapping[str, Mapping[str, Tensor]], batch: Batch) -> None:
        for target in engine.tasks if batch.targets else ():
            pair = assembly.model.head_of(target).calibration_pairs(outputs[target], batch.targets[target])
            if pair is not None:
                pairs[target].append((pair[0].cpu(), pair[1].cpu()))

    _, before = measure(engine.with_runner(assembly.runner.listened_by(collect)), valid)
    for target, task in engine.tasks.items():
        if sum(len(labels) for _, labels in pairs[target]) >= 20:
            logits = _stack([logits for logits, _ in pairs[target]])
            labels = torch.cat([labels for _, labels in pairs[target]])
            temperature = fit_temperature(logits.numpy(), labels.numpy())
            # Without a single mistake the likelihood only grows with the confidence: no row shows overconfidence.
            faultless = bool((logits.argmax(-1) == labels).all())
            task.temperature = max(1.0, temperature) if faultless else temperature
    results = list(engine.answered(valid.documents))
    tuned = {target: task for target, task in engine.tasks.items() if isinstance(task, Tunes) and target in before}
    for target, task in tuned.items():
        for message in task.tune([r.predictions[target] for r in results], [r.golds[target] for r in results]):
            notify(message)
    if any(task.tunes_answers for task in tuned.values()):
        results = list(engine.answered(valid.documents))
    after = evaluate_results(engine, results, positives=valid.positives)
    for target, evaluation in before.items():
        if "ece" in evaluation.metrics:
            ece = " → ".join(f"{evaluations[target].metrics['ece']:.4f}" for evaluations in (before, after))
            temperature = engine.tasks[target].temperature
            notify(f"calibration of {target!r}: temperature {temperature:.3f}, ECE {ece} (validation rows)")
    return before, after


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
    if len(evaluations) < len(engine.tasks):
        raise SchemaError("some target has no label in these rows: nothing is proved")
    metrics = {t: float(evaluations[t].metrics[task.primary_metric]) for t, task in engine.tasks.items()}
    return metrics, np.array([p.probability or 0.0 for r in results for p in r.predictions.values()])


def _stack(logits: Sequence[Tensor]) -> Tensor:
    """(N, C) from batches whose C may differ (positions in windows): missing columns are impossible classes."""
    width = max(t.shape[1] for t in logits)
    return torch.cat([torch.nn.functional.pad(t, (0, width - t.shape[1]), value=-1e4) for t in logits])
