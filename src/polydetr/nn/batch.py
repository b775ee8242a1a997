"""What travels between the parts: encoded examples, the typed batch, what the model gives back.

Shape legend, the same everywhere: B examples, L tokens of one group, D ``embed_dim``, C classes.
Every mask has one polarity: **True = real**.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from polydetr.core.examples import Arrays, Example


@dataclass(frozen=True)
class TokenGroup:
    """The entries of one modality for B examples, not yet embedded.

    values: named tensors, each (B, L, ...); mask: (B, L) bool, True = real; positions: (B, L) int64.
    """

    values: Mapping[str, Tensor]
    mask: Tensor
    positions: Tensor

    def __post_init__(self) -> None:
        shape = self.mask.shape
        if self.mask.dtype != torch.bool or self.mask.dim() != 2:
            raise ValueError(f"mask must be bool (B, L), got {self.mask.dtype} {tuple(shape)}")
        if self.positions.shape != shape:
            raise ValueError(f"positions {tuple(self.positions.shape)} do not match mask {tuple(shape)}")
        for name, value in self.values.items():
            if value.shape[:2] != shape:
                raise ValueError(f"values[{name!r}] {tuple(value.shape)} do not begin with (B, L) = {tuple(shape)}")

    def to(self, device: torch.device | str) -> TokenGroup:
        return TokenGroup(
            {k: v.to(device) for k, v in self.values.items()}, self.mask.to(device), self.positions.to(device)
        )


@dataclass(frozen=True)
class Batch:
    """B encoded examples. ``targets`` is empty at prediction time; ``example_ids`` says which example each row is, and
    ``seed`` what tasks that answer at random (generation) draw from: the same seed and id, the same answer. Where
    nothing is drawn, as in a graph, there may be no ids.
    """

    groups: Mapping[str, TokenGroup]
    targets: Mapping[str, Mapping[str, Tensor]]
    example_ids: tuple[int, ...]
    weights: Tensor
    seed: int = 0
    positives: Mapping[str, TokenGroup] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = self.weights.shape[0]
        if self.example_ids and len(self.example_ids) != size:
            raise ValueError(f"there are {len(self.example_ids)} ids of {size} examples")
        for name, group in (*self.groups.items(), *self.positives.items()):
            if group.mask.shape[0] != size:
                raise ValueError(f"group {name!r} holds {group.mask.shape[0]} examples, expected {size}")
        for target, tensors in self.targets.items():
            for name, tensor in tensors.items():
                if tensor.shape[0] != size:
                    raise ValueError(f"target {target!r}/{name!r} holds {tensor.shape[0]} examples, expected {size}")

    def to(self, device: torch.device | str) -> Batch:
        groups = {k: g.to(device) for k, g in self.groups.items()}
        targets = {t: {k: v.to(device) for k, v in tensors.items()} for t, tensors in self.targets.items()}
        positives = {target: group.to(device) for target, group in self.positives.items()}
        return Batch(groups, targets, self.example_ids, self.weights.to(device), self.seed, positives)

    @property
    def num_real_tokens(self) -> int:
        return sum(int(group.mask.sum()) for group in (*self.groups.values(), *self.positives.values()))

    @staticmethod
    def collate(examples: Sequence[Example], ids: Sequence[int] | None = None, *, seed: int = 0) -> Batch:
        """Pads to the longest example **of this batch**, group by group. The only collation there is."""
        groups = {name: _group([e.groups[name] for e in examples]) for name in examples[0].groups}
        positives = {target: _group([e.positives[target] for e in examples]) for target in examples[0].positives}
        targets: dict[str, dict[str, Tensor]] = {}
        for target, first in examples[0].targets.items():
            tensors = targets[target] = {}
            for key in first:
                column = [np.asarray(e.targets[target][key]) for e in examples]
                fill = examples[0].padding.get(target, {}).get(key)
                if fill is not None:
                    tensors[key] = _pad(column, max(1, max(len(c) for c in column)), fill)
                else:
                    tensors[key] = torch.from_numpy(np.stack(column))
        weights = torch.tensor([e.weight for e in examples], dtype=torch.float32)
        numbers = tuple(ids if ids is not None else range(len(examples)))
        return Batch(groups, targets, numbers, weights, seed, positives)


def _group(arrays: Sequence[Arrays]) -> TokenGroup:
    lengths = [len(next(iter(a.values()))) for a in arrays]
    longest = max(1, max(lengths))
    values = {key: _pad([a[key] for a in arrays], longest, 0) for key in arrays[0]}
    mask = torch.arange(longest)[None] < torch.tensor(lengths)[:, None]
    positions = values.pop("positions", torch.arange(longest)[None].expand(len(arrays), longest))
    return TokenGroup(values, mask, positions)


def _pad(arrays: Sequence[np.ndarray], longest: int, fill: int) -> Tensor:
    out = np.full((len(arrays), longest, *arrays[0].shape[1:]), fill, dtype=_wide(arrays[0].dtype))
    for i, array in enumerate(arrays):
        out[i, : len(array)] = array
    return torch.from_numpy(out)


def _wide(dtype: np.dtype) -> np.dtype:
    """Examples are stored in small integers; embeddings want int64. Pixels (uint8) stay small."""
    return np.dtype(np.int64) if np.issubdtype(dtype, np.integer) and dtype != np.uint8 else dtype


@dataclass(frozen=True)
class Embedded:
    """What an embedder makes of a ``TokenGroup``: tokens (B, L', D) and their mask (B, L'), True = real.

    maps: where a task asks for them, the features of each row's first picture by stride,
    (B, C, h, w), those that are finer than its tokens; frame: (B, 6), a ``values.images.Frame`` each.
    word_rows: where a task asks for it, (B, L') int64: at the first token of each word of the
    windowed text 1 + the number of its row in the window's document, elsewhere 0.
    """

    tokens: Tensor
    mask: Tensor
    maps: Mapping[int, Tensor] = field(default_factory=dict)
    frame: Tensor | None = None
    word_rows: Tensor | None = None


@dataclass(frozen=True)
class Encoded:
    """What the encoder hands to the task heads.

    tokens: group → (B, L, D); masks: group → (B, L) bool; pooled: (B, D), the mean of the groups' means, so that fifty
    cells of an image do not drown eight columns of a table. embedded: what the encoder was given, by group.
    """

    tokens: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]
    pooled: Tensor
    embedded: Mapping[str, Embedded] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """Where the images of a training step were moved to when they were augmented.

    scale, shift: (B, 2), new = scale · old + shift, for points (x, y) as shares of the image; window: (B, 4), left,
    top, right, bottom of what is still seen of it.
    """

    scale: Tensor
    shift: Tensor
    window: Tensor
