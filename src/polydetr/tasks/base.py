"""What every task answers: its head, its loss, its decoding, its metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from polydetr.config import Config, TaskConfig
from polydetr.core.examples import Arrays
from polydetr.core.layout import FieldText, Layout
from polydetr.core.predictions import Evaluation, Prediction
from polydetr.core.records import Row
from polydetr.errors import SchemaError, did_you_mean
from polydetr.nn.batch import Embedded, Scene

Attend = Callable[[Embedded, Tensor | None], Tensor]
"""(own tokens (B, L', D), which rows (B,) show none of their values or None) → the own tokens, attended (B, L', D)."""


@dataclass(frozen=True)
class WindowView:
    """What a task may look at when it makes the targets of one window: ``golds[i]`` is ``gold`` of row i."""

    layout: Layout | None
    texts: Sequence[FieldText]
    golds: Sequence[Any]
    content: int = 0
    """A hash of the inputs of this window, where a task has a ``view``: the same for the same inputs."""
    groups: Mapping[str, Arrays] = field(default_factory=dict)
    """What the model reads of this window, by group."""


class Task(ABC):
    """One file each. An instance belongs to one target column and knows its labels."""

    kind: ClassVar[str]
    per_token: ClassVar[bool]
    primary_metric: ClassVar[str]
    lower_is_better: ClassVar[bool] = False
    reads_document: ClassVar[bool] = False  # whether ``decode`` and ``encode_target`` take several rows of one document
    options: ClassVar[frozenset[str]] = frozenset()  # what of ``TaskConfig`` it heeds, beside ``loss_weight``
    tunes: ClassVar[bool] = False  # whether ``tune`` changes what ``decode`` answers
    counts_steps: ClassVar[bool] = False  # whether it needs so many steps, however few the rows (``Config.steps``)
    reads_maps: ClassVar[bool] = False  # whether its head reads the features of pictures in several scales
    reads_words: ClassVar[bool] = False  # whether its head is told where words begin (``Embedded.word_rows``)

    def __init__(self, target: str, config: TaskConfig) -> None:
        self.target = target
        self.config = config
        self.inputs: tuple[str, ...] = ()  # kinds of the input columns, set before ``learn``
        self.map_channels: Mapping[int, int] = {}  # stride → channels of the maps finer than the tokens, and
        self.grid = 0  # cells a side of a picture's tokens: both set before ``build_head`` where it reads maps
        self.view: str | None = None
        """The modality that reads the target's own value as a second view of the row, attended over apart from the
        inputs: training then has ``outputs["positive"]`` beside ``outputs["vector"]``, and a gold value has a ``key``
        and a ``vector`` (``tasks.embedding``).
        """
        self.temperature = 1.0
        self.label_smoothing = 0.0  # set by the training loop from its configuration

    # -- before training --------------------------------------------------------------------------------------------

    def configure(self, config: Config) -> None:  # noqa: B027 - most tasks need none
        """Takes what it heeds outside its own options; before ``learn``.

        Raises:
            ConfigError: settings that do not go with this task.
        """

    @abstractmethod
    def learn(self, rows: Sequence[Row]) -> list[str]:
        """Reads label set or scale from the training rows; returns notes for the user.

        Raises:
            SchemaError: the target cannot be learned from (missing everywhere, one class only, of the wrong type).
        """

    def missing_everywhere(self, column_of: str) -> SchemaError:
        """What ``learn`` raises where no row has a value; column_of: what the column should hold."""
        return SchemaError(
            f"target {self.target!r} is missing in every training row", hint=f"Name the column that holds {column_of}."
        )

    def label_set(self, found: Iterable[str]) -> list[str]:
        """The labels to learn: those that the configuration gives (``TaskConfig.labels``), otherwise those found.

        Raises:
            SchemaError: one that was found is not among those given.
        """
        found = set(found)
        labels = list(self.config.labels or sorted(found))
        if unknown := sorted(found - set(labels)):
            raise SchemaError(
                f"label {unknown[0]!r} of target {self.target!r} is not in the given label set. "
                f"{did_you_mean(unknown[0], labels)}"
            )
        return labels

    @abstractmethod
    def encode_target(self, view: WindowView) -> Arrays:
        """The labels as arrays for ``loss``; a missing label, or one unseen in training, gives arrays that the loss
        ignores.
        """

    @abstractmethod
    def gold(self, row: Row, text: FieldText | None) -> Any:
        """The row's label as ``encode_target`` learns it and ``evaluate`` compares it; None where the row has none.

        Raises:
            RowError: the label cannot be read.
        """

    def located(self, row: Row, folder: Path | None) -> Row:
        """The row with this target's relative paths made to begin at ``folder``; what ``learn`` and ``gold`` read."""
        return row

    def content_key(self, rows: Sequence[Row]) -> str:
        """Changes whenever files that this target merely names were changed: part of the key of the cache on disk."""
        return ""

    def problems(self, gold: Any) -> Sequence[str]:
        """What a readable label asks for that this task cannot learn, a sentence each."""
        return ()

    # -- tensors ------------------------------------------------------------------------------------------------------

    @abstractmethod
    def build_head(self, embed_dim: int) -> nn.Module:
        """A module from Encoded to a dict of tensors, each beginning with B.

        Where ``brings_tokens``, from (Batch, Attend): it lets its own tokens attend together with the row's, as often
        as it needs.
        """

    @property
    def named_labels(self) -> Sequence[str]:
        """Labels that the head knows by vectors, which begin as what the text embedder makes of their names: its
        ``name_labels`` takes them, (C, D). None where it knows them otherwise.
        """
        return ()

    @property
    def brings_tokens(self) -> int:
        """How many tokens of its own (a picture being painted) enter the shared encoder beside each row's."""
        return 0

    @abstractmethod
    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], weights: Tensor) -> dict[str, Tensor]:
        """Named scalar terms, each a mean over what it counts."""

    def follow(self, targets: Mapping[str, Tensor], scene: Scene) -> Mapping[str, Tensor]:
        """The targets of a batch whose pictures were moved."""
        return targets

    def calibration_pairs(
        self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor] | None:
        """(N, C) logits and (N,) labels of a batch, for temperature scaling; None where it does not apply."""
        return None

    # -- answers -------------------------------------------------------------------------------------------------------

    @abstractmethod
    def decode(
        self, outputs: Sequence[Arrays], layouts: Sequence[Layout | None], texts: Sequence[FieldText], num_rows: int
    ) -> list[Prediction]:
        """One prediction a row, from the outputs of all windows of one document."""

    @abstractmethod
    def evaluate(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> Evaluation:
        """Scores predictions against ``gold`` values, row by row."""

    def tune(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> list[str]:
        """Chooses thresholds on the validation rows after calibration; returns notes for the user."""
        return []

    def to_json(self, value: Any, *, file: Path | None = None) -> Any:
        """A prediction's value in JSON terms. What does not fit there is written to ``file``, a path without ending,
        which is then named; without one it is put into the text.
        """
        return value

    # -- state ---------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "config": self.config.model_dump(),
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
        task = cls(state["target"], TaskConfig(**state["config"]))
        task.temperature = float(state["temperature"])
        task.restore(state)
        return task


def view_group(target: str, modality: str) -> str:
    """The batch's group in which a target's own value travels (``Task.view``); names of modalities hold no slash."""
    return f"{target}/{modality}"


def modality_of(group: str) -> str:
    """The modality whose values a group of a batch holds."""
    return group.rpartition("/")[2]


def is_view(group: str) -> bool:
    """Whether a group of a batch holds a target's own values, which the inputs never attend to."""
    return "/" in group


def log_softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Over the last axis, in float64, so that decoding does not depend on the training precision."""
    scaled = logits.astype(np.float64) / temperature
    shifted = scaled - scaled.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
