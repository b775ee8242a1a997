"""What every head answers: from the encoder's tokens to named outputs, and from those and the targets to a loss.

Heads are the half of a task that needs tensors; a head and its task carry the same name, in ``core.plugs.HEADS`` and
``core.plugs.TASKS``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, runtime_checkable

from torch import Tensor, nn

from polydetr.backbones.detr import PretrainedDetr
from polydetr.nn.batch import Embedded, Encoded, Scene
from polydetr.nn.decoder import SetDecoder

Attend = Callable[[Embedded, Tensor | None], Tensor]
"""(own tokens (B, L', D), which rows (B,) show none of their values or None) → the own tokens, attended (B, L', D)."""


@dataclass(frozen=True)
class EncoderShape:
    """What a head is built on: the width of the tokens; of images also stride → channels of the maps that are finer
    than the tokens, cells per side of the tokens, and, where their backbone is a published DETR's, the sizes of its
    transformer (``specs.image.ImageSpec.detr``).
    """

    embed_dim: int
    map_channels: Mapping[int, int] = field(default_factory=dict)
    grid: int = 0
    detr: Mapping[str, Any] | None = None


class Head(nn.Module, ABC):
    """A module from ``Encoded`` to a dict of tensors, each beginning with B; whole once it is built."""

    @classmethod
    @abstractmethod
    def from_task(cls, task: Any, shape: EncoderShape, *, label_smoothing: float = 0.0) -> Self:
        """With random weights, for what ``task`` has learned from the rows."""

    @abstractmethod
    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], weights: Tensor) -> dict[str, Tensor]:
        """Named scalar terms, each a mean over what it counts. targets: those of ``Task.encode_target``, collated;
        weights (B,).
        """

    def calibration_pairs(
        self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor] | None:
        """(N, C) logits and (N,) labels of a batch, for temperature scaling; None where it does not apply."""
        return None


class PooledHead(Head):
    """A linear output over the pooled token (the article's y = Linear(z)): "logits" (B, num_outputs)."""

    def __init__(self, embed_dim: int, num_outputs: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(embed_dim, num_outputs)

    def forward(self, encoded: Encoded) -> dict[str, Tensor]:
        return {"logits": self.output(self.dropout(encoded.pooled))}


# -- what only some heads can do ---------------------------------------------------------------------------------------


@runtime_checkable
class DecodesSets(Protocol):
    """Finds a set by queries, layer after layer; the layers may be those of a decoder that several heads share."""

    @property
    def decoder(self) -> SetDecoder | None:
        """Its own, where it can be lent to others."""
        ...

    def use_decoder(self, decoder: SetDecoder) -> None:
        """Decodes by one that the whole model owns (``model.share_decoder``)."""
        ...

    def __call__(self, encoded: Encoded, *, last_only: bool, by_shape: bool) -> dict[str, Tensor]:
        """last_only: the answers of the last layer, enough for prediction; otherwise those of all, for the loss.

        by_shape: no size may depend on the values of a tensor, as a graph for export needs it.
        """
        ...


@runtime_checkable
class PaintsTokens(Protocol):
    """Lets tokens of its own attend together with the row's, as often as it needs (``capabilities.BringsTokens``)."""

    def draw(self, count: int) -> Any:
        """What a training step leaves to chance, from torch's global generator, for ``count`` rows."""
        ...

    def numbered_draws(self, numbers: Sequence[int], seed: int) -> Any:
        """The same for rows that are measured or painted: of the seed and each row's number alone."""
        ...

    def __call__(self, x: Tensor, time: Tensor, attend: Attend, hidden: Tensor | None = None) -> Tensor:
        """The velocity at x (B, C, S, S) and time (B,): one step of ``outputs``."""
        ...

    def outputs(self, attend: Attend, draws: Any, targets: Mapping[str, Tensor] | None) -> dict[str, Tensor]: ...


@runtime_checkable
class TransformsTargets(Protocol):
    """Has targets that move with the images."""

    def transform_targets(self, targets: Mapping[str, Tensor], scene: Scene) -> Mapping[str, Tensor]:
        """The targets of a batch whose images were moved."""
        ...


@runtime_checkable
class TakesDetr(Protocol):
    """Can begin with the transformer of a published DETR."""

    def load_pretrained(self, found: PretrainedDetr) -> None:
        """Takes it over, where it is one itself.

        Raises:
            BackboneError: the weights are not those of a DETR.
        """
        ...


@runtime_checkable
class NamesLabels(Protocol):
    """Knows labels by vectors (``capabilities.NamedLabels``)."""

    def name_labels(self, vectors: Tensor) -> None:
        """Begins with these vectors of the labels' names, (C, D)."""
        ...
