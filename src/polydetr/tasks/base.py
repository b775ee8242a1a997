"""What every task answers, in numbers: what it learns from the rows, its gold values, its decoding, its metrics.

The half with tensors, head and loss, stands in ``heads`` under the same name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from polydetr.core.examples import Arrays
from polydetr.core.layout import FieldText, Layout
from polydetr.core.predictions import Evaluation, Prediction
from polydetr.core.records import Row
from polydetr.errors import SchemaError, did_you_mean


class TaskOptions(BaseModel):
    """What can be said of one target, under ``tasks.<target>``. Each task adds its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    loss_weight: float = Field(default=1.0, gt=0, description="factor on this target's loss")


class DecoderOptions(TaskOptions):
    """Of a task that decodes sets, by a decoder that several targets may share."""

    hidden_dim: int | None = None
    decoder_layers: int | None = None

    def shared(self, sizes: DecoderSizes | None) -> Self:
        """With the sizes that were agreed on, where no others are given."""
        agreed = {} if sizes is None else {"hidden_dim": sizes.hidden_dim, "decoder_layers": sizes.decoder_layers}
        mine = {"hidden_dim": self.hidden_dim, "decoder_layers": self.decoder_layers}
        return self.model_copy(update={name: size for name, size in agreed.items() if mine[name] is None})


@dataclass(frozen=True)
class DecoderSizes:
    """What targets that share one decoder agree on (``model.share_decoder``); None: each task's own default."""

    hidden_dim: int | None = None
    decoder_layers: int | None = None


@dataclass(frozen=True)
class TaskContext:
    """What a task may know of the run beside its own options.

    inputs: the kinds of the input columns; decoder: of the one that is shared, where one is; mix: how images are
    blended in training; freeze_backbones: whether backbones give their coarsest features alone.
    """

    inputs: tuple[str, ...] = ()
    decoder: DecoderSizes | None = None
    mix: str = "none"
    freeze_backbones: bool = False


NOTHING_KNOWN = TaskContext()


@dataclass(frozen=True)
class WindowView:
    """What a task may look at when it makes the targets of one window: ``golds[i]`` is ``gold`` of row i."""

    layout: Layout | None
    golds: Sequence[Any]
    content: int = 0
    """A hash of the inputs of this window, where a target is read itself: the same for the same inputs."""
    groups: Mapping[str, Arrays] = field(default_factory=dict)
    """What the model reads of this window, by group."""


class Task(ABC):
    """One file each. An instance belongs to one target column and knows its labels. What only some tasks can do stands
    in ``tasks.capabilities``.
    """

    kind: ClassVar[str]
    per_token: ClassVar[bool]
    primary_metric: ClassVar[str]
    lower_is_better: ClassVar[bool] = False
    reads_document: ClassVar[bool] = False
    """Whether ``decode`` and ``encode_target`` take several rows of one document."""
    padded: ClassVar[Mapping[str, int]] = {}
    """Arrays of ``encode_target`` that hold an entry per token or per object → what fills them up in a batch."""
    Options: ClassVar[type[TaskOptions]] = TaskOptions

    options: Any
    """Of the class ``Options``."""

    def __init__(self, target: str, options: TaskOptions, *, context: TaskContext = NOTHING_KNOWN) -> None:
        """Raises ConfigError where the context does not go with this task."""
        self.target = target
        self.options = options
        self.context = context
        self.temperature = 1.0
        """What logits are divided by; fitted by calibration."""

    # -- before training ----------------------------------------------------------------------------------------------

    @abstractmethod
    def learn(self, rows: Sequence[Row]) -> list[str]:
        """Reads label set or scale from the training rows; returns messages for the user.

        Raises:
            SchemaError: the target cannot be learned from (missing everywhere, one class only, of the wrong type).
        """

    def missing_everywhere(self, column_of: str) -> SchemaError:
        """What ``learn`` raises where no row has a value; column_of: what the column should hold."""
        return SchemaError(
            f"target {self.target!r} is missing in every training row", hint=f"Name the column that holds {column_of}."
        )

    @abstractmethod
    def encode_target(self, view: WindowView) -> Arrays:
        """The labels as arrays for the head's loss, the same names for every row; a missing label, or one unseen in
        training, gives arrays that the loss ignores.
        """

    @abstractmethod
    def gold(self, row: Row, text: FieldText | None) -> Any:
        """The row's label as ``encode_target`` learns it and ``evaluate`` compares it; None where the row has none.

        Raises:
            RowError: the label cannot be read.
        """

    # -- answers ------------------------------------------------------------------------------------------------------

    @abstractmethod
    def decode(
        self, outputs: Sequence[Arrays], layouts: Sequence[Layout | None], texts: Sequence[FieldText], num_rows: int
    ) -> list[Prediction]:
        """One prediction per row, from the head's outputs for all windows of one document."""

    @abstractmethod
    def evaluate(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> Evaluation:
        """Scores predictions against ``gold`` values, row by row."""

    # -- state --------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "config": self.options.model_dump(),
            "temperature": self.temperature,
            **self.learned(),
        }

    @abstractmethod
    def learned(self) -> dict[str, Any]:
        """What ``learn`` found, as JSON."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of ``learned``."""

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Task:
        given = cls.saved_options(state)
        task = cls(state["target"], cls.Options(**{k: v for k, v in given.items() if k in cls.Options.model_fields}))
        task.temperature = float(state["temperature"])
        task.restore(state)
        return task

    @classmethod
    def saved_options(cls, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """The options in a saved state, old ones among them: what ``Options`` does not know any more is left out."""
        return state["config"]


def label_set(target: str, given: Sequence[str] | None, found: Iterable[str]) -> list[str]:
    """The labels to learn: those that the options give, otherwise those found in the training rows.

    Raises:
        SchemaError: one that was found is not among those given.
    """
    found = set(found)
    labels = list(given or sorted(found))
    if unknown := sorted(found - set(labels)):
        raise SchemaError(
            f"label {unknown[0]!r} of target {target!r} is not in the given label set. "
            f"{did_you_mean(unknown[0], labels)}"
        )
    return labels


def log_softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Over the last axis, in float64, so that decoding does not depend on the training precision."""
    scaled = logits.astype(np.float64) / temperature
    shifted = scaled - scaled.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
