"""How far the outputs of two runners lie apart on the same encoded rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from polydetr.core.examples import Arrays, Example
from polydetr.core.runner import Runner
from polydetr.engine.engine import Engine
from polydetr.export.samples import random_examples
from polydetr.tasks.detection import DetectionTask

ROWS = 32
"""Random rows that are compared where there are none of the validation."""
_UNMATCHED = 0.02
"""Share of an image's queries that may have no counterpart: the last of equally good cells is one or the other."""


def compared(engine: Engine, ours: Runner, theirs: Runner, examples: Sequence[Example] | None) -> dict[str, Any]:
    """The largest difference between the outputs of two runners, relative where an output is above 1: on ``examples``,
    or, with None, on random rows; and on random values of the positive side of every embedding.
    """
    chosen = _chosen_by_score(engine)
    rows = list(examples) if examples else random_examples(engine.encoder, ROWS)
    largest = difference(ours, theirs, rows, list(engine.tasks), chosen=chosen)
    for target in engine.encoder.positives:
        side = random_examples(engine.encoder.of_positives(target), ROWS)
        largest = max(largest, difference(ours, theirs, side, [target]))
    rows_are = "validation" if examples else "random"
    return {"rows": len(rows), "rows_are": rows_are, "largest_difference": float(f"{largest:.3g}")}


def _chosen_by_score(engine: Engine) -> set[str]:
    """The targets whose queries are the cells of highest score (``nn.detr_fast``)."""
    return {
        target
        for target, task in engine.tasks.items()
        if isinstance(task, DetectionTask) and task.options.architecture == "detr-fast"
    }


def difference(
    ours: Runner,
    theirs: Runner,
    examples: Sequence[Example],
    targets: Sequence[str],
    *,
    chosen: Collection[str] = (),
) -> float:
    """chosen: targets whose queries are chosen by their score: cells of equal scores come in any order."""
    numbers = range(len(examples))
    pairs = zip(*(runner.run(examples, targets, seed=0, numbers=numbers) for runner in (ours, theirs)), strict=True)
    largest = 0.0
    for a, b in pairs:
        for target in a:
            measure = _of_sets if target in chosen else _of_arrays
            largest = max(largest, measure(a[target], b[target]))
    return largest


def _of_arrays(ours: Arrays, theirs: Arrays) -> float:
    """Of one example. An axis of tokens may end in padding, which the two need not have alike."""
    largest = 0.0
    for name, array in ours.items():
        common = tuple(slice(min(sizes)) for sizes in zip(array.shape, theirs[name].shape, strict=True))
        largest = max(largest, float(_apart(array[common], theirs[name][common]).max(initial=0.0)))
    return largest


def _of_sets(ours: Arrays, theirs: Arrays) -> float:
    """Of the queries of one image, (layers, Q, ·): each of ours to the nearest of theirs."""
    names = [name for name, array in ours.items() if array.ndim == 3]
    a, b = (np.concatenate([found[name][-1] for name in names], axis=-1) for found in (ours, theirs))
    nearest = np.sort(_apart(a[:, None], b[None]).max(-1).min(1))
    kept = len(nearest) - int(_UNMATCHED * len(nearest))
    rest = [name for name in ours if name not in names]
    return max(float(nearest[:kept].max()), _of_arrays({n: ours[n] for n in rest}, theirs))


def _apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a - b| / max(1, |a|); infinite where one of them is no number, 0 where both are the same infinity."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.where(a == b, 0.0, np.abs(a - b) / np.maximum(1.0, np.abs(a)))
    return np.nan_to_num(apart, nan=np.inf)
