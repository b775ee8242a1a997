"""From the raw outputs of windows to the spans of each row, without duplicates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from polydetr.core.examples import Arrays
from polydetr.core.layout import Layout
from polydetr.values.spans import Nesting, go_together


class Candidate(NamedTuple):
    """A span of words, first … last (inclusive), with the number of its label and its score."""

    first: int
    last: int
    label: int
    score: float


def window_candidates(output: Arrays, num_words: int, *, least: float) -> list[Candidate]:
    """The spans of one window's queries of a score of at least ``least``, one per query, in words of the window; the
    highest-scoring first.
    """
    real = output["seeds"][:, 0] >= 0
    logits = output["logits"][real, -1].astype(np.float64)
    if not num_words or not len(logits):
        return []
    label = logits.argmax(-1)
    score = 1 / (1 + np.exp(-logits[np.arange(len(label)), label]))
    first, last = output["seeds"][real].astype(np.int64).T
    if "start_logits" in output:
        first, last = _best_ends(*(output[f"{end}_logits"][real, -1, :num_words] for end in ("start", "end")))
    order = [i for i in np.argsort(-score, kind="stable") if score[i] >= least]
    return [Candidate(int(first[i]), int(last[i]), int(label[i]), float(score[i])) for i in order]


def _best_ends(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The most probable first and last word (Q,) of each query, the first not behind the last; logits (Q, W)."""
    last = (np.maximum.accumulate(start, axis=1) + end).argmax(1)
    before = np.arange(start.shape[1]) <= last[:, None]
    return np.where(before, start, -np.inf).argmax(1), last


def merged(
    outputs: Sequence[Arrays], layouts: Sequence[Layout], num_rows: int, *, least: float
) -> list[list[Candidate]]:
    """The candidates of each of the document's rows, from all of its windows. Memory and time grow with the text.

    Where windows overlap, a span is taken from the one with the most context around it: whose nearer artificial edge is
    farther away. So a span that several windows hold is answered once, and one that is cut off by an edge is not.
    """
    # (row, word) → window → margin, of the few windows that hold the word, in their order.
    margins: dict[tuple[int, int], dict[int, int]] = defaultdict(dict)
    places: list[list[tuple[int, int]]] = []
    for number, layout in enumerate(layouts):
        begins = np.flatnonzero(layout.first)
        places.append(list(zip(layout.row[begins].tolist(), layout.word[begins].tolist(), strict=True)))
        for place, margin in zip(places[-1], layout.margin[begins].tolist(), strict=True):
            margins[place][number] = margin
    candidates: list[list[Candidate]] = [[] for _ in range(num_rows)]
    for number, (output, words) in enumerate(zip(outputs, places, strict=True)):
        for first, last, label, score in window_candidates(output, len(words), least=least):
            (row, a), (row_of_last, b) = words[first], words[last]
            if row == row_of_last and _most_context(margins[row, a], margins[row, b]) == number:
                candidates[row].append(Candidate(a, b, label, score))
    return candidates


def _most_context(first: Mapping[int, int], last: Mapping[int, int]) -> int:
    """Of the windows that hold both ends of a span, given with the ends' margins, the one with the most context."""
    return max((window for window in first if window in last), key=lambda window: min(first[window], last[window]))


def settled(candidates: Sequence[Candidate], nesting: Nesting) -> list[Candidate]:
    """Each span once, the highest-scoring first, without those that ``nesting`` excludes beside a better one."""
    kept: list[Candidate] = []
    at: dict[int, list[Candidate]] = defaultdict(list)  # word → the kept spans that hold it: no others are in the way
    for one in sorted(candidates, key=lambda c: -c.score):
        words = range(one.first, one.last + 1)
        near = dict.fromkeys(other for word in words for other in at.get(word, ()))
        known = any(one[:3] == other[:3] for other in near)
        if not known and all(go_together((c.first, c.last + 1), (one.first, one.last + 1), nesting) for c in near):
            kept.append(one)
            for word in words:
                at[word].append(one)
    return kept
