"""Does the attribution mean anything? Delete the words it scores highest, delete as many of the others at random, and
compare.

Source: comprehensiveness (DeYoung et al. 2020, arXiv 1911.03429), against random words. The words of the answer
itself (an entity, an
answer's span) are never deleted: without them there would be no answer to ask about. Deleting, not replacing: all
other words stay
the words they were, and the answer is followed to its new place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from polydetr.explain.answers import Answer, Reading
from polydetr.explain.words import Words
from polydetr.layout import Row

SHARE = 0.2
"""The part of the words that is deleted; at least one."""


def deletion_check(
    read: Callable[[Sequence[Row]], list[Reading]],
    row: Row,
    words: Words,
    answer: Answer,
    *,
    scores: NDArray[np.float64],
    seen: Sequence[int],
    draws: int,
    seed: int,
) -> dict[str, float] | None:
    """Probabilities of the answer, as :func:`polydetr.reports.deletion_verdict` reads them; None where too few words
    may go.

    read: rows → what the model says to each, in one batched run. seen: the words that the model has read.
    """
    kept = {words.number(i) for i in answer.words}
    free = np.array([n for n in seen if n not in kept], dtype=np.int64)
    if len(free) < 2:  # the highest-scored word and a random one would be the same
        return None
    count = min(max(1, round(SHARE * len(free))), len(free) // 2)
    strength = scores[free] if answer.signed else np.abs(scores[free])
    top = free[np.argsort(-strength, kind="stable")[:count]]
    # Random words are drawn from the others: one decisive word among them would else make the comparison a matter of
    # luck.
    others = np.setdiff1d(free, top)
    rng = np.random.default_rng(seed)
    gone = [np.empty(0, np.int64), top, *(rng.choice(others, count, replace=False) for _ in range(draws))]
    readings = read([words.without(row, set(map(int, g))) for g in gone])
    first = words.number(0)
    probabilities = []
    for deleted, reading in zip(gone, readings, strict=True):
        before = np.sort(deleted[deleted >= first] - first)
        moved = answer.moved(lambda i, before=before: i - int(np.searchsorted(before, i)))
        probabilities.append(moved.probability(reading))
    random = np.array(probabilities[2:])
    return {
        "original": probabilities[0],
        "without_top": probabilities[1],
        "without_random": float(random.mean()),
        "random_std": float(random.std(ddof=1)) if len(random) > 1 else 0.0,
        "words": float(count),
    }
