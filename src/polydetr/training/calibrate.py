"""After the training: temperatures and thresholds, chosen on the validation rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from polydetr.core.predictions import Evaluation
from polydetr.core.records import Record
from polydetr.engine.engine import Engine, Outputs
from polydetr.engine.measure import evaluate_results, gold_values
from polydetr.metrics.calibration import fit_temperature
from polydetr.nn.batch import Batch
from polydetr.tasks.capabilities import Tunes


def calibrate(
    engine: Engine, valid: Sequence[Record], *, note: Callable[[str], None]
) -> tuple[dict[str, Evaluation], dict[str, Evaluation]]:
    """Fits each task's temperature (Guo et al. 2017, arXiv 1706.04599) and thresholds; evaluations before and after."""
    pairs: dict[str, list[tuple[Tensor, Tensor]]] = {target: [] for target in engine.tasks}

    def collect(outputs: Outputs, batch: Batch) -> None:
        for target in engine.tasks:
            found = engine.model.head_of(target).calibration_pairs(outputs[target], batch.targets[target])
            if found is not None:
                pairs[target].append((found[0].cpu(), found[1].cpu()))

    results = list(engine.run(valid, with_targets=True, on_batch=collect))
    before = evaluate_results(engine, results)
    for target, task in engine.tasks.items():
        if sum(len(labels) for _, labels in pairs[target]) >= 20:
            logits = _stack([logits for logits, _ in pairs[target]])
            labels = torch.cat([labels for _, labels in pairs[target]])
            temperature = fit_temperature(logits.numpy(), labels.numpy())
            # Without a single mistake the likelihood only grows towards certainty: no row shows how sure is too sure.
            faultless = bool((logits.argmax(-1) == labels).all())
            task.temperature = max(1.0, temperature) if faultless else temperature
    results = list(engine.run(valid, with_targets=True))
    tuned = {target: task for target, task in engine.tasks.items() if isinstance(task, Tunes)}
    for target, task in tuned.items():
        for line in task.tune([r.predictions[target] for r in results], gold_values(engine.tasks[target], results)):
            note(line)
    if any(task.tunes_answers for task in tuned.values()):
        results = list(engine.run(valid, with_targets=True))
    after = evaluate_results(engine, results)
    for target, task in engine.tasks.items():
        if "ece" in before[target].metrics:
            ece = before[target].metrics["ece"], after[target].metrics["ece"]
            note(
                f"calibration of {target!r}: temperature {task.temperature:.3f}, "
                f"ECE {ece[0]:.4f} → {ece[1]:.4f} (validation rows)"
            )
    return before, after


def _stack(logits: Sequence[Tensor]) -> Tensor:
    """(N, C) from batches whose C may differ (positions in windows): missing columns are impossible answers."""
    width = max(t.shape[1] for t in logits)
    return torch.cat([torch.nn.functional.pad(t, (0, width - t.shape[1]), value=-1e4) for t in logits])
