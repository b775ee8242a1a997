"""Does the attribution mean anything? Delete what it scores highest, delete as much of the rest at random, and compare.
And what does each column matter? Ask again without it.

Source: comprehensiveness (DeYoung et al. 2020, arXiv 1911.03429), against random units. The words of the answer itself
(an entity, an answer's span) are never deleted: without them there would be no answer to ask about. Deleting, not
replacing: all other words stay the words they were, and the answer is followed to its new place. Cells of a picture
cannot be taken out: they are painted over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from polydetr.core.records import Row
from polydetr.explain.answers import Answer, Reading
from polydetr.explain.columns import Asked
from polydetr.explain.parts import Units

SHARE = 0.2
"""The part of the units that is deleted; at least one."""

Read = Callable[[Sequence[Row]], list[Reading]]
"""Rows → what the model says to each, in one batched run."""


def deletion_check(
    read: Read, row: Row, units: Units, answer: Answer, *, scores: NDArray[np.float64], draws: int, seed: int
) -> dict[str, float] | None:
    """Probabilities of the answer, as :func:`polydetr.reports.deletion_verdict` reads them; None where too few units
    may go.
    """
    kept = {units.word(i) for i in answer.words}
    free = np.array([n for n in units.seen if n not in kept], dtype=np.int64)
    if len(free) < 2:  # the highest-scored unit and a random one would be the same
        return None
    count = min(max(1, round(SHARE * len(free))), len(free) // 2)
    strength = scores[free] if answer.signed else np.abs(scores[free])
    top = free[np.argsort(-strength, kind="stable")[:count]]
    # Random units are drawn from the others: one decisive word among them would else make the comparison a matter of
    # luck.
    others = np.setdiff1d(free, top)
    rng = np.random.default_rng(seed)
    gone = [np.empty(0, np.int64), top, *(rng.choice(others, count, replace=False) for _ in range(draws))]
    readings = read([units.without(row, set(map(int, g))) for g in gone])
    probabilities = []
    for deleted, reading in zip(gone, readings, strict=True):
        moved = answer
        if answer.words:
            first = units.word(0)
            before = np.sort(deleted[deleted >= first] - first)
            moved = answer.moved(lambda i, before=before: i - int(np.searchsorted(before, i)))
        probabilities.append(moved.probability(reading))
    random = np.array(probabilities[2:])
    return {
        "original": probabilities[0],
        "without_top": probabilities[1],
        "without_random": float(random.mean()),
        "random_std": float(random.std(ddof=1)) if len(random) > 1 else 0.0,
        **units.counts(set(map(int, top))),
    }


def answers_without(
    read: Read, row: Row, answer: Answer, asked: Mapping[Asked, Sequence[str]], *, can_read: Callable[[Row], bool]
) -> dict[Asked, float | None]:
    """What the answer comes to (``Answer.level``) where columns are missing that are there.

    None where there is no such row for the model: nothing is left to read, or a task points into the text that is gone.
    """
    found: dict[Asked, float | None] = dict.fromkeys(asked)
    rows: dict[Asked, Row] = {}
    for name, columns in asked.items():
        shorter = {**row, **dict.fromkeys(columns)}
        if can_read(shorter):
            rows[name] = shorter
    for name, reading in zip(rows, read(list(rows.values())) if rows else (), strict=True):
        found[name] = answer.level(reading)
    return found
