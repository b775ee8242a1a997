"""The tensors between embedders, encoder and heads: a batch of encoded examples, and what each step makes of it.

Shape legend, the same everywhere: B examples, L tokens of one group, D ``embed_dim``, C classes.
Every mask has one polarity: **True = real**.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from polydetr.core.examples import Example, PaddedGroup, collate


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

    @staticmethod
    def of(group: PaddedGroup) -> TokenGroup:
        """As tensors, which share the arrays' memory."""
        values = {name: torch.from_numpy(array) for name, array in group.values.items()}
        return TokenGroup(values, torch.from_numpy(group.mask), torch.from_numpy(group.positions))

    def to(self, device: torch.device | str) -> TokenGroup:
        return TokenGroup(
            {k: v.to(device) for k, v in self.values.items()}, self.mask.to(device), self.positions.to(device)
        )


@dataclass(frozen=True)
class Batch:
    """B encoded examples. ``targets`` is empty at prediction time; ``example_ids`` holds the number of each example,
    which with ``seed`` determines what is drawn at random (in generation): the same two, the same output. Where nothing
    is drawn, as in a graph, there may be no ids. weights: (B,), of each example in the losses. positives: what an
    embedding is to be similar to, by target.
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
        """``core.examples.collate`` as tensors, which share its memory."""
        arrays = collate(examples)
        numbers = tuple(ids if ids is not None else range(len(examples)))
        return Batch(
            {name: TokenGroup.of(group) for name, group in arrays.groups.items()},
            {t: {name: torch.from_numpy(a) for name, a in named.items()} for t, named in arrays.targets.items()},
            numbers,
            torch.from_numpy(arrays.weights),
            seed,
            {target: TokenGroup.of(group) for target, group in arrays.positives.items()},
        )


@dataclass(frozen=True)
class Embedded:
    """What an embedder makes of a ``TokenGroup``: tokens (B, L', D) and their mask (B, L'), True = real.

    maps: where a task needs them, the features of each row's first image by stride,
    (B, C, h, w), those that are finer than its tokens; frame: (B, 6), a ``values.framing.Frame`` each.
    word_rows: where a task needs it, (B, L') int64: at the first token of each word of the
    windowed text 1 + the number of its row in the window's document, elsewhere 0.
    sums: of some heads, what each token adds to the outputs by itself, (B, L', outputs) in float32 (``nn.numbers``).
    """

    tokens: Tensor
    mask: Tensor
    maps: Mapping[int, Tensor] = field(default_factory=dict)
    frame: Tensor | None = None
    word_rows: Tensor | None = None
    sums: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Encoded:
    """What the encoder hands to the task heads.

    tokens: group → (B, L, D); masks: group → (B, L) bool; pooled: (B, D), the mean of the groups' means, so that fifty
    cells of an image do not outweigh eight columns of a table. embedded: the encoder's input, by group.
    """

    tokens: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]
    pooled: Tensor
    embedded: Mapping[str, Embedded] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """How the images of a training step were moved by augmentation.

    scale, shift: (B, 2), new = scale · old + shift, for points (x, y) as shares of the image; window: (B, 4), left,
    top, right, bottom of the part that is still visible; pixel: its size, as a share of the image.
    """

    scale: Tensor
    shift: Tensor
    window: Tensor
    pixel: float = 0.0
