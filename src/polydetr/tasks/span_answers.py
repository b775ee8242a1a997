"""From the raw outputs of windows to the spans of each row, without duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from polydetr.core.examples import Arrays
from polydetr.core.layout import Layout
from polydetr.tasks.gold_spans import rows_in
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
    outputs: Sequence[Arrays], layouts: Sequence[Layout], lengths: Sequence[int], *, least: float
) -> list[list[Candidate]]:
    """Each row's candidates, from all windows of its document; lengths: the number of words of each row.

    Where windows overlap, a span is taken from the one with the most context around it: whose nearer artificial edge is
    farther away. So a span that several windows hold is answered once, and one that is cut off by an edge is not.
    """
    # margins[row][window, word]: -1 where the window does not hold the word.
    margins = [np.full((len(layouts), length), -1, dtype=np.int64) for length in lengths]
    places: list[tuple[np.ndarray, np.ndarray]] = []
    for number, layout in enumerate(layouts):
        begins = np.flatnonzero(layout.first)
        places.append((layout.row[begins], layout.word[begins]))
        for row in rows_in(layout, len(lengths)):
            here = begins[layout.row[begins] == row]
            margins[row][number, layout.word[here]] = layout.margin[here]
    candidates: list[list[Candidate]] = [[] for _ in lengths]
    for number, (output, (rows, words)) in enumerate(zip(outputs, places, strict=True)):
        for first, last, label, score in window_candidates(output, len(words), least=least):
            row, a, b = int(rows[first]), int(words[first]), int(words[last])
            if row == rows[last] and np.minimum(margins[row][:, a], margins[row][:, b]).argmax() == number:
                candidates[row].append(Candidate(a, b, label, score))
    return candidates


def settled(candidates: Sequence[Candidate], nesting: Nesting) -> list[Candidate]:
    """Each span once, the highest-scoring first, without those that ``nesting`` excludes beside a better one."""
    kept: list[Candidate] = []
    for one in sorted(candidates, key=lambda c: -c.score):
        known = any((one.first, one.last, one.label) == (c.first, c.last, c.label) for c in kept)
        if not known and all(go_together((c.first, c.last + 1), (one.first, one.last + 1), nesting) for c in kept):
            kept.append(one)
    return kept
