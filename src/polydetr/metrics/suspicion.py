"""Which labels of measured rows may be wrong: confident learning (Northcutt et al. 2021, arXiv 1911.00068).

The threshold of a class is the model's mean probability of it over the rows that carry it, t_j = mean p_j(x) of x with
label j (the paper's equation 2). A row with label i is suspicious where the model gives another class j a probability
of at least t_j, as to rows that are j, and more than ``ABOVE``, and its own label less than ``BELOW``.

``data.suspicious`` looks for the same before there is a model.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, TypeVar

BELOW, ABOVE = 0.1, 0.6
"""A label of a larger probability is no suspect, an answer of a smaller one no witness (as in ``data.suspicious``)."""
MIN_OF_CLASS = 5
"""Fewer rows of a class tell nothing about how sure the model is of it."""
L = TypeVar("L", bound=Hashable)


def class_thresholds(pairs: Iterable[tuple[L, float]]) -> dict[L, float]:
    """Class → its threshold, from (label, the model's probability of it) of each row; classes with too few rows have
    none.
    """
    sums: dict[L, float] = defaultdict(float)
    counts: Counter[L] = Counter()
    for label, probability in pairs:
        sums[label] += probability
        counts[label] += 1
    return {label: sums[label] / count for label, count in counts.items() if count >= MIN_OF_CLASS}


def is_suspicious(thresholds: Mapping[Any, float], *, of_label: float, answer: Hashable, of_answer: float) -> bool:
    """Whether a row is, by the probabilities of its label and of another, the ``answer``."""
    return of_label < BELOW and answer in thresholds and of_answer >= max(ABOVE, thresholds[answer])
