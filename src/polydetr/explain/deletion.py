"""Does the attribution mean anything? Delete what it scores highest, delete as much of the rest at random, and compare.

Source: comprehensiveness (DeYoung et al. 2020, arXiv 1911.03429), against random units. The words of the answer itself
(an entity, an answer's span) are never deleted: without them there would be no answer to ask about. Deleting, not
replacing: all other words stay the words they were, and the answer is followed to its new place. Cells of an image
cannot be taken out: they are painted over.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from polydetr.core.records import Row
from polydetr.explain.reading import Read
from polydetr.explain.units import Units
from polydetr.tasks.explained import Answer

SHARE = 0.2
"""The share of the units that is deleted; at least one."""
DRAWS = 10
"""How often random units are deleted, always by the same seed."""


def units_of_answer(units: Units, answer: Answer) -> set[int]:
    """The units that the answer itself consists of."""
    return {units.word(i) for i in answer.words}


def moved_answer(answer: Answer, units: Units, gone: Collection[int]) -> Answer:
    """The same answer, in its new place, where those units are gone."""
    if not answer.words:
        return answer
    first = units.word(0)
    before = np.sort(np.array([unit - first for unit in gone if unit >= first], dtype=np.int64))
    return answer.moved(lambda i: i - int(np.searchsorted(before, i)))


def deletion_check(
    read: Read, row: Row, units: Units, answer: Answer, *, scores: NDArray[np.float64]
) -> dict[str, float] | None:
    """Probabilities of the answer, as :func:`polydetr.reports.deletion_verdict` reads them; None where too few units
    may go, or what is left cannot be read.
    """
    kept = units_of_answer(units, answer)
    free = np.array([n for n in units.seen if n not in kept], dtype=np.int64)
    if len(free) < 2:  # the highest-scored unit and a random one would be the same
        return None
    count = min(max(1, round(SHARE * len(free))), len(free) // 2)
    strength = scores[free] if answer.signed else np.abs(scores[free])
    top = free[np.argsort(-strength, kind="stable")[:count]]
    # Random units are drawn from the others: one decisive word among them would else make the comparison a matter of
    # luck.
    others = np.setdiff1d(free, top)
    rng = np.random.default_rng(0)
    gone = [set(), set(top.tolist()), *(set(rng.choice(others, count, replace=False).tolist()) for _ in range(DRAWS))]
    original, without_top, *random = (
        None if reading is None else moved_answer(answer, units, deleted).probability(reading)
        for deleted, reading in zip(gone, read([units.without(row, deleted) for deleted in gone]), strict=True)
    )
    drawn = [probability for probability in random if probability is not None]
    if original is None or without_top is None or not drawn:
        return None
    return {
        "original": original,
        "without_top": without_top,
        "without_random": float(np.mean(drawn)),
        "random_std": float(np.std(drawn, ddof=1)) if len(drawn) > 1 else 0.0,
        **units.counts(gone[1]),
    }
