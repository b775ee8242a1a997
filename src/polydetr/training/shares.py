"""What a batch counts for: as much as it holds, so that a row counts the same whichever batch it falls into.

A head's loss is a mean over what it counts in a batch: rows, words. Batches of one token budget hold a few long texts
or dozens of short ones, so that a mean over each would let a row of the one count many times as much as a row of the
other. Each target's loss is therefore multiplied by what its batch counts, over what a batch counts on average: 1 in
the mean, which leaves the learning rate what it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from polydetr.data.store import ExampleStore
from polydetr.heads.base import Head
from polydetr.nn.batch import Batch

SAMPLE = 2000
"""Examples at most from which the averages are taken."""


class BatchShares:
    """Of one run. heads: by target; store: the training examples."""

    def __init__(self, heads: Mapping[str, Head], store: ExampleStore) -> None:
        step = max(1, -(-len(store) // SAMPLE))
        labels = [replace(store[i], groups={}, positives={}) for i in range(0, len(store), step)]
        sample = Batch.collate(labels)
        self._heads = heads
        # At least one of the sample: where a target has almost no labels, the few must not count a thousand times.
        self._per_example = {
            target: max(float(head.counted(sample.targets[target], sample.weights)), 1.0) / len(labels)
            for target, head in heads.items()
        }

    def of(self, batch: Batch, *, mean_examples: float) -> dict[str, Tensor]:
        """Target → the factor on the loss of this batch, (). mean_examples: in a batch of the epoch, on average."""
        return {
            target: head.counted(batch.targets[target], batch.weights) / (self._per_example[target] * mean_examples)
            for target, head in self._heads.items()
        }
