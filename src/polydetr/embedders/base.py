"""What every embedder does: tokens → vectors. What only some can do stands below it, as protocols."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from polydetr.backbones.detr import PretrainedDetr
from polydetr.embedders.entry import Entry, TokenEntry
from polydetr.nn.batch import Embedded, Scene, TokenGroup


class Embedder(nn.Module, ABC):
    """TokenGroup → Embedded; one file each, under the name of its modality. ``embed_dim``: the width of its tokens.

    None draws random numbers but from a generator it is handed, and none looks at the global gradient mode.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.embed_dim = embed_dim

    @classmethod
    @abstractmethod
    def from_modality(cls, modality: Any, *, embed_dim: int | None, others: Mapping[str, nn.Module]) -> Self:
        """With random weights, for the tokens of ``modality``. embed_dim: None leaves the width to it.

        others: the embedders of the modalities that stand before it, by name; one that uses them does not own them.
        """

    @staticmethod
    def pretrained(modality: Any) -> Mapping[str, Tensor]:
        """Pretrained weights by parameter name, read from disk; none where it has none."""
        return {}

    @abstractmethod
    def forward(self, group: TokenGroup) -> Embedded:
        """Vectors of the group's tokens, in the precision of the weights, and which of them are real.

        Values come as ``encode`` gave them: numbers are float32 where the model computes in bfloat16, too.
        """

    def augment(
        self, group: TokenGroup, generator: torch.Generator, *, progress: float = 0.0
    ) -> tuple[TokenGroup, Scene | None]:
        """Other values that mean the same, in training alone and anew in every step; and what the images then show,
        where targets have to follow.

        progress: of the training, 0 … 1.
        """
        return group, None

    def entry(self) -> Entry:
        """Where its values enter the network as vectors, for explanations."""
        return TokenEntry(self)


@runtime_checkable
class ShowsAttention(Protocol):
    """Has a backbone that attends."""

    def with_attention(self, group: TokenGroup) -> tuple[Embedded, list[Tensor] | None]:
        """What it gives, and how its tokens attend to one another: one (B, L, L) per layer, heads averaged, row = the
        token that looks; None where the inside of the backbone is not known.
        """
        ...


@runtime_checkable
class HasBackbone(Protocol):
    """Starts from ``group.values["features"]`` where that is given, in place of what it would compute itself.

    frozen_with_backbone: the parts that the features depend on. read_beside_features: what else it then reads of the
    group.
    """

    frozen_with_backbone: Sequence[str]
    read_beside_features: Sequence[str]

    def features(self, group: TokenGroup) -> Embedded:
        """What the backbone makes of the group: all that training with a frozen one repeats."""
        ...


@runtime_checkable
class GivesMaps(Protocol):
    """Gives the backbone's features in several scales (``Embedded.maps``).

    grid: cells a side of its tokens. map_channels: stride → channels of the maps that are finer than these.
    """

    grid: int
    keeps_maps: bool

    @property
    def map_channels(self) -> Mapping[int, int]: ...


@runtime_checkable
class HasDetr(Protocol):
    """Its backbone may be that of a published DETR, with a transformer to read its maps.

    detr: that transformer's sizes (``specs.image.ImageSpec.detr``); None where there is none.
    """

    detr: Mapping[str, Any] | None

    @staticmethod
    def pretrained_detr(modality: Any) -> PretrainedDetr | None:
        """Its weights, read from disk; None where it has none."""
        ...


class Blend(NamedTuple):
    """Examples blended with others: the group, who with whom (B,) int64, and each one's own share (B,) float32."""

    group: TokenGroup
    permutation: Tensor
    share: Tensor


@runtime_checkable
class BlendsExamples(Protocol):
    """In training alone, and only where a model reads nothing else: the losses are blended alike."""

    def blend(self, group: TokenGroup, generator: torch.Generator) -> Blend | None:
        """Each example with another; None where that is not wanted."""
        ...
