"""Whether one model is better than another on the same rows: the paired bootstrap (Efron and Tibshirani 1993, ch. 16).

Rows are drawn with replacement, the same ones for both models, and the tasks' own metrics are computed of each draw. So
it holds for metrics that are no mean over rows (F1, R², mean average precision). The rows of one document are drawn
together.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from polydetr.core.predictions import Evaluation, RowResult
from polydetr.core.studies import Gain
from polydetr.engine.measure import measured_targets
from polydetr.errors import SchemaError
from polydetr.tasks.base import Task
from polydetr.training.objective import score_of

MOST_DRAWS, LEAST_DRAWS, ROWS_EVALUATED = 1000, 100, 400_000
"""So many draws, but of many rows fewer, down to the least: about so many rows are evaluated for each model."""
FEWEST_DRAWS = 40
"""Of an evaluation so slow that a time limit leaves no time for more: 95 % of them are told from all."""
INTERVAL = 0.9
Answered = Sequence[Sequence[RowResult]]
"""Rows that a model answered, with their labels, by document."""


def evaluations_of(tasks: Mapping[str, Task], answered: Answered) -> dict[str, Evaluation]:
    """The tasks' evaluations, of the targets that some row has a value of. Raises SchemaError where there is none."""
    rows = [row for document in answered for row in document]
    measured = measured_targets({target: [row.golds[target] for row in rows] for target in tasks})
    return {t: tasks[t].evaluate([row.predictions[t] for row in rows], golds) for t, golds in measured.items()}


def resampled_scores(
    tasks: Mapping[str, Task], answered: Answered, *, seed: int, until: float = float("inf")
) -> np.ndarray:
    """(draws,) the score of each draw; NaN where no drawn row has a label. The same draws for as many documents.

    until: the time, by ``time.monotonic``, after which there are no more than ``FEWEST_DRAWS``.
    """
    scores: list[float] = []
    for draw in draws(len(answered), seed=seed):
        if len(scores) >= FEWEST_DRAWS and time.monotonic() > until:
            break
        scores.append(_score_or_nan(tasks, [answered[i] for i in draw]))
    return np.array(scores)


def draws(documents: int, *, seed: int) -> Iterator[np.ndarray]:
    """The numbers of the documents in each draw."""
    rng = np.random.default_rng(seed)
    for _ in range(max(LEAST_DRAWS, min(MOST_DRAWS, ROWS_EVALUATED // max(1, documents)))):
        yield rng.integers(0, documents, documents)


def gain_between(default: np.ndarray, best: np.ndarray, *, difference: float, rows: int) -> Gain:
    """What the scores of the same draws say. difference: of the scores of all rows, best minus default."""
    apart = best - default
    apart = apart[np.isfinite(apart)]
    low, high = np.quantile(apart, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2]) if len(apart) else (-np.inf, np.inf)
    share = float(np.mean(apart > 0)) if len(apart) else 0.0
    return Gain(difference, float(low), float(high), rows, share)


def _score_or_nan(tasks: Mapping[str, Task], answered: Answered) -> float:
    try:
        return score_of(tasks, evaluations_of(tasks, answered))
    except SchemaError:
        return float("nan")
