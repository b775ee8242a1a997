"""The interface of embedders: tokens → vectors. What only some of them can do stands below, as protocols."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from polydetr.backbones.detr import PretrainedDetr
from polydetr.embedders.entry import Entry, TokenEntry
from polydetr.nn.batch import Embedded, Scene, TokenGroup
from polydetr.nn.numbers import Cells, CellSums


class Embedder(nn.Module, ABC):
    """TokenGroup → Embedded; its file has the name of its modality. ``embed_dim``: the width of its tokens.

    An embedder draws random numbers only from the generator that it is passed, and does not depend on the global
    gradient mode.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.embed_dim = embed_dim

    @classmethod
    @abstractmethod
    def from_modality(cls, modality: Any, *, embed_dim: int | None, others: Mapping[str, nn.Module]) -> Self:
        """With random weights, for the tokens of ``modality``. embed_dim: None leaves the width to the embedder.

        others: the embedders of the modalities built before it, by name; using one does not register its parameters.
        """

    @staticmethod
    def pretrained(modality: Any) -> Mapping[str, Tensor]:
        """Pretrained weights by parameter name, read from disk; empty where there are none."""
        return {}

    @abstractmethod
    def forward(self, group: TokenGroup) -> Embedded:
        """Vectors of the group's tokens, in the precision of the weights, and which of them are real.

        Values have the dtype that ``encode`` gave them: numbers are float32 also where the model computes in bfloat16.
        """

    def augment(
        self, group: TokenGroup, generator: torch.Generator, *, progress: float = 0.0
    ) -> tuple[TokenGroup, Scene | None]:
        """Augmented values, drawn anew in every training step, and how the images were moved, where targets must move
        with them.

        progress: of the training, 0 … 1.
        """
        return group, None

    def entry(self) -> Entry:
        """Where its values enter the network as vectors, for explanations."""
        return TokenEntry(self)


def column_embedding(num_columns: int, width: int) -> nn.Embedding | None:
    """A vector per column of a modality, by which its tokens differ; None where there is one column."""
    return small_embedding(num_columns, width) if num_columns > 1 else None


def small_embedding(count: int, width: int) -> nn.Embedding:
    """An embedding table that begins near zero, N(0, 0.02²)."""
    table = nn.Embedding(count, width)
    nn.init.normal_(table.weight, std=0.02)
    return table


# -- what only some embedders can do -----------------------------------------------------------------------------------


@runtime_checkable
class ShowsAttention(Protocol):
    """Has a backbone that attends."""

    def with_attention(self, group: TokenGroup) -> tuple[Embedded, list[Tensor] | None]:
        """Its output, and the attention of its layers: one (B, L, L) per layer, averaged over the heads, row = query,
        column = key; None where the backbone's layers are not accessible.
        """
        ...


@runtime_checkable
class HasBackbone(Protocol):
    """Starts from ``group.values["features"]`` where that is given, in place of its backbone's output.

    frozen_with_backbone: the submodules that the features depend on; read_beside_features: the values of the group that
    it still reads then.
    """

    frozen_with_backbone: Sequence[str]
    read_beside_features: Sequence[str]

    def features(self, group: TokenGroup) -> Embedded:
        """The backbone's output for the group, which stays the same while the backbone is frozen."""
        ...


@runtime_checkable
class GivesMaps(Protocol):
    """Gives the backbone's features in several scales (``Embedded.maps``).

    grid: cells per side of its tokens. map_channels: stride → channels of the maps that are finer than these.
    """

    grid: int
    keeps_maps: bool

    @property
    def map_channels(self) -> Mapping[int, int]: ...


@runtime_checkable
class AddsUp(Protocol):
    """Can also add up outputs of a head over its tokens, without any attention (``Embedded.sums``)."""

    def add_up(self, name: str, num_outputs: int, *, rank: int) -> None:
        """From now on for the head of this name. It begins with zeros. rank: factors of its pairs (``CellSums``)."""
        ...

    def sums_of(self, name: str) -> CellSums:
        """What adds them up."""
        ...

    def cells_of(self, group: TokenGroup) -> Cells:
        """What that reads."""
        ...


@runtime_checkable
class HasDetr(Protocol):
    """Its backbone may be that of a published DETR, which also has a transformer.

    detr: the sizes of that transformer (``specs.image.ImageSpec.detr``); None for other backbones.
    """

    detr: Mapping[str, Any] | None

    @staticmethod
    def pretrained_detr(modality: Any) -> PretrainedDetr | None:
        """The weights of the transformer, read from disk; None where there is none."""
        ...


class Blend(NamedTuple):
    """Examples blended in pairs. permutation: each one's partner, (B,) int64; share: its own share, (B,) float32."""

    group: TokenGroup
    permutation: Tensor
    share: Tensor


@runtime_checkable
class BlendsExamples(Protocol):
    """Can blend examples in training, where the model reads no other modality; losses are blended alike."""

    def blend(self, group: TokenGroup, generator: torch.Generator) -> Blend | None:
        """Each example with another; None where blending is off."""
        ...
