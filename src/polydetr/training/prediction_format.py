"""Puts a trained model into the number format that it answers in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from polydetr.engine.engine import Engine
from polydetr.errors import SchemaError
from polydetr.model.build import Assembly
from polydetr.nn.cpu.int8 import WORTH, int8_speedup
from polydetr.training.encode import MeasuredRows, measure

TOLERANCE = 0.005
"""A target's main metric on the validation rows may differ by so much (a score absolutely, an error relatively)."""
SHIFT = 0.03
"""The probabilities of the answers may differ by so much on average: on few rows the metric alone proves little."""
MAX_ROWS = 2000
"""Validation rows that are answered in both formats at most."""


def set_prediction_format(
    assembly: Assembly,
    weights: Mapping[str, Tensor],
    *,
    trained_in: str,
    wanted: str,
    valid: MeasuredRows,
    note: Callable[[str], None],
) -> dict[str, Any]:
    """8-bit integers where the machine gains from them and the validation rows are answered as well as before;
    otherwise, or where ``wanted`` names a format, the one it was trained in. Returns what the model folder records.

    weights: the learned ones in float32, as they are saved.
    """
    model, engine = assembly.model, assembly.engine
    first = next(model.parameters())
    dtype, device = first.dtype, first.device  # read now: the parameter itself changes with the model
    kept = {"precision": trained_in}
    if wanted != "auto" or device.type != "cpu" or not model.fits_int8:
        return kept
    gain = int8_speedup(dtype)
    if gain < WORTH:
        return kept
    rows = valid.every(max(1, -(-len(valid.documents) // MAX_ROWS)))
    try:
        before, sure = _answers(engine, rows)
        model.float().load_state_dict(dict(weights))
        model.use_int8(encoder=dtype)
        after, sure_after = _answers(engine, rows)
        apart = max(abs(after[t] - before[t]) / max(1.0, abs(before[t])) for t in before)
        shift = float(np.abs(sure_after - sure).mean()) if len(sure) else 0.0
    except SchemaError:  # no row with a label among these: nothing can be proved
        before, after, apart, shift = {}, {}, float("inf"), float("inf")
    said = f"8-bit integers measured {gain:.1f} times as fast as {trained_in}"
    if not (apart <= TOLERANCE and shift <= SHIFT):
        model.use_int8(False)
        model.to(dtype).load_state_dict(dict(weights))
        model.eval()
        differ = f"on the validation rows metrics differ by {apart:.4f}, probabilities by {shift:.3f}"
        note(f"prediction: {trained_in} ({said}, but {differ})")
        return kept
    changes = ", ".join(f"{t!r} {before[t]:.4f} → {after[t]:.4f}" for t in before)
    note(f"prediction: int8 ({said}; on {len(rows.records)} validation rows {changes})")
    found = {
        "precision": "int8",
        "speedup": round(gain, 2),
        "rows": len(rows.records),
        "before": before,
        "after": after,
    }
    return found | {"probabilities_differ_by": round(shift, 5)}


def _answers(engine: Engine, rows: MeasuredRows) -> tuple[dict[str, float], np.ndarray]:
    """Each target's main metric, and how sure each answer is, where the tasks say that."""
    results, evaluations = measure(engine, rows)
    metrics = {t: float(evaluations[t].metrics[task.primary_metric]) for t, task in engine.tasks.items()}
    return metrics, np.array([p.probability or 0.0 for r in results for p in r.predictions.values()])
