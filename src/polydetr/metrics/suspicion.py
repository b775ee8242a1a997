"""Which labels of measured rows may be wrong: confident learning (Northcutt et al. 2021, arXiv 1911.00068).

The threshold of a class is the model's mean probability of it over the rows that carry it, t_j = mean p_j(x) of x with
label j (the paper's equation 2). A row with label i is suspicious where the model gives another class j a probability
of at least t_j, as to rows that are j, and more than ``ABOVE``, and its own label less than ``BELOW``.

Spans and answers of a text have the same thresholds, over the right ones. There being nothing is a class as well, where
a task gives it a probability everywhere: tagging does (of "O"), and question answering (of no answer). A set of
entities does not: a span that it never proposed has no probability, so a missed one is no suspect. Nor are boxes: of
an object that was forgotten a detector learns that it is none, and what is no box has no probability either.

Quantities have no classes, and a model of them no probability; see ``far_out``.

``data.suspicious`` looks for the same before there is a model.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

BELOW, ABOVE = 0.1, 0.6
"""A label of a larger probability is no suspect, an answer of a smaller one no witness (as in ``data.suspicious``)."""
MIN_OF_CLASS = 5
"""Fewer rows of a class tell nothing about how sure the model is of it."""
ALIKE = 50
"""Rows whose residuals are compared with one another."""
FENCE = 3.0
"""Interquartile ranges beyond the quartiles: what Tukey calls far out (Exploratory Data Analysis, 1977)."""
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


def far_out(predicted: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """(rows,) bool: residuals beyond Tukey's outer fences among those of the rows with the most similar answers: a
    target that errs more where it is larger (prices) is so compared with its like.

    Of residuals with a normal distribution it marks 1 in 7,000. Fewer than ``ALIKE`` rows tell nothing.
    """
    found = np.zeros(len(residuals), dtype=bool)
    for alike in np.array_split(np.argsort(predicted, kind="stable"), len(residuals) // ALIKE or 1):
        low, high = np.quantile(residuals[alike], [0.25, 0.75]) if len(alike) >= ALIKE else (0.0, 0.0)
        reach = FENCE * (high - low)
        if reach > 0:
            found[alike] = (residuals[alike] < low - reach) | (residuals[alike] > high + reach)
    return found
