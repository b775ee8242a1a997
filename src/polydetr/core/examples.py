"""Encoded rows, as plain arrays: what modalities and tasks make, before anything becomes a tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

IGNORE_INDEX = -100
"""A target with this value takes no part in the loss (the convention of ``torch.nn.functional.cross_entropy``)."""


Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Example:
    """One encoded window of a document, before batching; plain arrays, so that it can be cached on disk.

    ``groups[group][name]`` has one entry a token along its first axis (for images: one an image). A modality that is
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


@dataclass(frozen=True)
class PaddedGroup:
    """The entries of one modality for B examples: values, each (B, L, ...); mask (B, L) bool, True = real; positions
    (B, L) int64.
    """

    values: Arrays
    mask: np.ndarray
    positions: np.ndarray

    @staticmethod
    def of(arrays: Sequence[Arrays]) -> PaddedGroup:
        """One entry of ``arrays`` per example, padded to the longest of them."""
        lengths = np.array([len(next(iter(a.values()))) for a in arrays])
        longest = max(1, int(lengths.max()))
        values = {key: _padded([a[key] for a in arrays], longest, 0) for key in arrays[0]}
        steps = np.arange(longest)
        positions = values.pop("positions", np.broadcast_to(steps, (len(arrays), longest)).copy())
        return PaddedGroup(values, steps < lengths[:, None], positions)


@dataclass(frozen=True)
class Collated:
    """B examples side by side, in NumPy: what any runner computes from."""

    groups: Mapping[str, PaddedGroup]
    targets: Mapping[str, Arrays]
    positives: Mapping[str, PaddedGroup]
    weights: np.ndarray


def collate(examples: Sequence[Example]) -> Collated:
    """Pads to the longest example **of these**, group by group. The only collation there is."""
    first = examples[0]
    targets: dict[str, dict[str, np.ndarray]] = {}
    for target, names in first.targets.items():
        fills, arrays = first.padding.get(target, {}), targets.setdefault(target, {})
        for name in names:
            column = [np.asarray(e.targets[target][name]) for e in examples]
            longest = max(1, max(len(c) for c in column)) if name in fills else 0
            arrays[name] = _padded(column, longest, fills[name]) if name in fills else np.stack(column)
    return Collated(
        {name: PaddedGroup.of([e.groups[name] for e in examples]) for name in first.groups},
        targets,
        {target: PaddedGroup.of([e.positives[target] for e in examples]) for target in first.positives},
        np.array([e.weight for e in examples], dtype=np.float32),
    )


def _padded(arrays: Sequence[np.ndarray], longest: int, fill: int) -> np.ndarray:
    out = np.full((len(arrays), longest, *arrays[0].shape[1:]), fill, dtype=_wide(arrays[0].dtype))
    for i, array in enumerate(arrays):
        out[i, : len(array)] = array
    return out


def _wide(dtype: np.dtype) -> np.dtype:
    """Examples are stored in small integers; embeddings want int64. Pixels (uint8) stay small."""
    return np.dtype(np.int64) if np.issubdtype(dtype, np.integer) and dtype != np.uint8 else dtype
