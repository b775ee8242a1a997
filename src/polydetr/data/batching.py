"""Which examples travel together: a token budget per step, similar lengths in one batch, the same order for the same
seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

BUCKET_BATCHES = 50
"""Lengths are sorted within about this many batches: little padding, and still a random order over the whole set."""


def token_budget_batches(
    lengths: Sequence[int] | np.ndarray, budget: int, *, seed: int | None, epoch: int = 0
) -> list[list[int]]:
    """Batches of example numbers whose padded size (longest × count) is within ``budget``; each example exactly once.

    seed: None keeps the given order apart from sorting by length (prediction). An example longer than the budget
    travels alone.
    """
    lengths = np.asarray(lengths)
    if seed is None:
        return list(_cut(np.argsort(lengths, kind="stable"), lengths, budget))
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    per_batch = max(1, int(budget / max(1.0, float(lengths.mean())))) if len(lengths) else 1
    batches: list[list[int]] = []
    for start in range(0, len(order), per_batch * BUCKET_BATCHES):
        bucket = order[start : start + per_batch * BUCKET_BATCHES]
        batches += _cut(bucket[np.argsort(lengths[bucket], kind="stable")], lengths, budget)
    return [batches[i] for i in rng.permutation(len(batches))]


def _cut(order: np.ndarray, lengths: np.ndarray, budget: int) -> Iterator[list[int]]:
    batch: list[int] = []
    longest = 0
    for i in order.tolist():
        longest_now = max(longest, int(lengths[i]))
        if batch and longest_now * (len(batch) + 1) > budget:
            yield batch
            batch, longest_now = [], int(lengths[i])
        batch.append(i)
        longest = longest_now
    if batch:
        yield batch
