"""Encoded rows, as plain arrays: what modalities and tasks make, before anything becomes a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

IGNORE_INDEX = -100
"""A target with this value takes no part in the loss (the convention of ``torch.nn.functional.cross_entropy``)."""


Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Example:
    """One encoded window of a document, before batching; plain arrays, so that it can be cached on disk.

    ``groups[group][name]`` has one entry per token along its first axis (for images: one per image). A modality that is
    missing has arrays of length 0, and is masked.
    ``positives[target][name]`` are the arrays of what belongs to the row, the positive side of an embedding, as the
    modality that reads it (``HasPositive``) encodes it; only where rows are learned or measured.
    ``targets[target][name]`` is a scalar (0-d), a fixed-length array, or, where ``padding[target]`` names it, one entry
    per token of the group that the task reads, or per object; a batch fills them up with the value given there.
    """

    groups: Mapping[str, Arrays]
    targets: Mapping[str, Arrays] = field(default_factory=dict)
    positives: Mapping[str, Arrays] = field(default_factory=dict)
    weight: float = 1.0
    cost: int | None = None
    padding: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def num_tokens(self) -> int:
        """What it costs the model, in tokens; ``cost`` where an entry becomes several (an image its grid)."""
        if self.cost is not None:
            return self.cost
        return sum(len(next(iter(arrays.values()))) for arrays in (*self.groups.values(), *self.positives.values()))
