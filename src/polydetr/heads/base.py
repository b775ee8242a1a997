"""The interface of heads: from the encoder's tokens to named outputs, and from those and the targets to a loss.

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

Tensors = Mapping[str, Tensor]
"""Outputs or targets of a batch by name; each tensor begins with B."""
Attend = Callable[[Embedded, Tensor | None], Tensor]
"""Runs the shared encoder over a row's tokens and the head's own ones: (own tokens (B, L', D), hidden (B,) bool, True
for rows whose inputs are masked, or None) → the own tokens as they come out, (B, L', D).
"""


DROPOUT = 0.1
"""Before the output layers."""


@dataclass(frozen=True)
class EncoderShape:
    """The sizes on which a head is built.

    embed_dim: the width of the tokens. Of images: map_channels, stride → channels of the maps that are finer than the
    tokens; grid, cells per side of the tokens; detr, the sizes of the transformer where the backbone is that of a
    published DETR (``specs.image.ImageSpec.detr``).
    """

    embed_dim: int
    map_channels: Mapping[int, int] = field(default_factory=dict)
    grid: int = 0
    detr: Mapping[str, Any] | None = None


class Head(nn.Module, ABC):
    """A module from ``Encoded`` to named tensors, each beginning with B."""

    @classmethod
    @abstractmethod
    def from_task(cls, task: Any, shape: EncoderShape, *, label_smoothing: float = 0.0) -> Self:
        """With random weights, for the labels or scales that ``task`` has learned from the rows."""

    @abstractmethod
    def loss(self, outputs: Tensors, targets: Tensors, weights: Tensor) -> dict[str, Tensor]:
        """Named scalar terms, each a mean over what it counts. targets: those of ``Task.encode_target``, collated;
        weights (B,).
        """

    def counted(self, targets: Tensors, weights: Tensor) -> Tensor:
        """How much the terms of ``loss`` are means over, (): rows by their weights, or words. 0: nothing is learned."""
        return weights.sum()

    def calibration_pairs(self, outputs: Tensors, targets: Tensors) -> tuple[Tensor, Tensor] | None:
        """(N, C) logits and (N,) labels of a batch, for temperature scaling; None where it does not apply."""
        return None


class PooledHead(Head):
    """A linear output over the pooled token, y = Linear(z): "logits" (B, num_outputs)."""

    def __init__(self, embed_dim: int, num_outputs: int, *, dropout: float = DROPOUT) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(embed_dim, num_outputs)

    def forward(self, encoded: Encoded) -> dict[str, Tensor]:
        return {"logits": self.output(self.dropout(encoded.pooled))}

    @property
    def num_outputs(self) -> int:
        return self.output.out_features


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Σ wᵢ xᵢ / Σ wᵢ over the rows, (B,), (B,) → (); 0 where every weight is 0."""
    return (values * weights).sum() / weights.sum().clamp(min=1e-6)


# -- what only some heads can do ---------------------------------------------------------------------------------------


@runtime_checkable
class DecodesSets(Protocol):
    """Predicts a set by queries, layer after layer; the layers may be those of a decoder that several heads share."""

    @property
    def decoder(self) -> SetDecoder | None:
        """Its own decoder, where other heads can use it."""
        ...

    def use_decoder(self, decoder: SetDecoder) -> None:
        """Replaces its decoder by one that the whole model owns (``model.share_decoder``)."""
        ...

    def __call__(self, encoded: Encoded, *, last_only: bool, by_shape: bool) -> dict[str, Tensor]:
        """last_only: outputs of the last layer alone, enough for prediction; otherwise of all layers, for the loss.

        by_shape: no size depends on the values of a tensor, as a graph for export requires.
        """
        ...


@runtime_checkable
class TakesSums(Protocol):
    """Its "logits" may be added to: by what cells of a table say by themselves (``embedders.base.AddsUp``)."""

    @property
    def num_outputs(self) -> int: ...


@runtime_checkable
class GeneratesImages(Protocol):
    """Runs the shared encoder over tokens of its own beside the row's, once per sampling step
    (``capabilities.BringsTokens``).
    """

    def draw(self, count: int) -> Any:
        """The random numbers of a training step for ``count`` rows, from torch's global generator."""
        ...

    def numbered_draws(self, numbers: Sequence[int], seed: int) -> Any:
        """The random numbers of rows that are measured or generated: a function of the seed and each row's number."""
        ...

    def __call__(self, x: Tensor, time: Tensor, attend: Attend, hidden: Tensor | None = None) -> Tensor:
        """The velocity at x (B, C, S, S) and time (B,): one step of ``outputs``."""
        ...

    def outputs(self, attend: Attend, draws: Any, targets: Tensors | None) -> dict[str, Tensor]:
        """With targets what the loss compares, otherwise images."""
        ...


@runtime_checkable
class TransformsTargets(Protocol):
    """Has targets that must move with augmented images."""

    def transform_targets(self, targets: Tensors, scene: Scene) -> Tensors:
        """The targets of a batch whose images were moved as ``scene`` says."""
        ...


@runtime_checkable
class TakesDetr(Protocol):
    """Can start from the transformer of a published DETR."""

    def load_pretrained(self, pretrained: PretrainedDetr) -> None:
        """Loads its weights, if the head's own architecture is DETR.

        Raises:
            BackboneError: the weights are not those of a DETR.
        """
        ...


@runtime_checkable
class NamesLabels(Protocol):
    """Has a vector per label of its task (``capabilities.HasLabels``), which begins as that of the label's name."""

    def name_labels(self, vectors: Tensor) -> None:
        """Initializes them with the vectors of the labels' names, (C, D)."""
        ...
