"""What every task answers, in numbers: what it learns from the rows, its gold values, its decoding, its metrics.

The half with tensors, head and loss, stands in ``heads`` under the same name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Self, TypeVar

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from polydetr.core.examples import Arrays
from polydetr.core.layout import FieldText, Layout, Layouts
from polydetr.core.predictions import Details, Evaluation, Prediction
from polydetr.core.records import Row
from polydetr.core.tables import AnswerColumn, confidence, predicted
from polydetr.errors import SchemaError, did_you_mean
from polydetr.tasks.confidence import Calibration, SavedCalibration
from polydetr.values.decoding import MAX_PIXELS

OLD_SECTIONS = ("detection", "entities")
"""Sections of older configurations and model folders: options of the targets of the task of that name."""
D = TypeVar("D", bound=Details)
LOWER_IS_BETTER = frozenset({"rmse", "mae", "median_absolute_error", "ece", "flow_loss", "interval_width"})
"""Metrics that measure errors."""
LabelName = Annotated[str, BeforeValidator(lambda label: str(label) if isinstance(label, (int, float)) else label)]
"""A label in a list of them: a number is its text."""


def distinct(labels: list[str]) -> list[str]:
    if len(set(labels)) < len(labels):
        raise ValueError("a label stands there twice")
    return labels


class TaskOptions(BaseModel):
    """The options of one target, under ``tasks.<target>`` of the configuration. Each task adds its own."""

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True, protected_namespaces=())

    loss_weight: float = Field(default=1.0, gt=0, le=1_000_000, description="factor on this target's loss")
    metric: str | None = Field(
        default=None, description="by which the best weights, and settings, are chosen; default: the task's first one"
    )


class LearnedState(BaseModel):
    """What a task has learned, as a model folder holds it: checked before it is used. Each task adds its own."""

    model_config = ConfigDict(
        defer_build=True, extra="allow", strict=True, allow_inf_nan=False, protected_namespaces=()
    )

    temperature: float = Field(ge=1e-6, le=1e6)
    calibration: SavedCalibration | None = None


Labels = Annotated[list[str], AfterValidator(distinct)]
"""A label set."""


class DecoderOptions(TaskOptions):
    """The options of a task that predicts a set of labeled objects by a decoder, which several targets may share."""

    labels: list[LabelName] | None = Field(
        default=None, description="the label set, when the data do not show all of it"
    )
    threshold: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="score from which a box or span is answered; default: tuned on validation rows",
    )
    hidden_dim: int | None = None
    decoder_layers: int | None = None

    def shared(self, sizes: DecoderSizes | None) -> Self:
        """These options, with the sizes of the shared decoder in place of those that are None."""
        agreed = vars(sizes) if sizes is not None else {}
        return self.model_copy(update={name: size for name, size in agreed.items() if getattr(self, name) is None})


@dataclass(frozen=True)
class DecoderSizes:
    """The sizes of a decoder that several targets share (``model.share_decoder``); None: each task's own default."""

    hidden_dim: int | None = None
    decoder_layers: int | None = None


@dataclass(frozen=True)
class TaskContext:
    """What a task may know of the run beside its own options.

    inputs: the kinds of the input columns; decoder: the sizes of the shared decoder, None where there is none; mix: how
    images are blended in training (``image.augment.mix``); freeze_backbones: whether backbones give their coarsest
    features alone; max_pixels: of an image that is read.
    """

    inputs: tuple[str, ...] = ()
    decoder: DecoderSizes | None = None
    mix: str = "none"
    freeze_backbones: bool = False
    max_pixels: int = MAX_PIXELS


NOTHING_KNOWN = TaskContext()


@dataclass(frozen=True)
class WindowView:
    """What ``encode_target`` is given for one window: ``golds[i]`` is ``gold`` of row i of the document."""

    layout: Layout | None
    golds: Sequence[Any]
    content: int = 0
    """A hash of the inputs of this window, the same for the same inputs; only for tasks whose target has a positive
    side (``HasPositive``)."""
    groups: Mapping[str, Arrays] = field(default_factory=dict)
    """The input arrays of this window, by modality."""


class Task(ABC):
    """The half of a task without tensors. An instance belongs to one target column and holds what ``learn`` found
    there. What only some tasks can do stands in ``tasks.capabilities``.
    """

    kind: ClassVar[str]
    """The name of the task in ``core.plugs.TASKS`` and in the schema."""
    per_token: ClassVar[bool] = False
    """Whether its answers point to words, so that texts are read word by word."""
    primary_metric: ClassVar[str]
    """The metric of ``evaluate`` by which the best weights are chosen."""
    lower_is_better: ClassVar[bool] = False
    reads_document: ClassVar[bool] = False
    """Whether ``decode`` and ``encode_target`` take several rows of one document."""
    padded: ClassVar[Mapping[str, int]] = {}
    """Name → fill value, for the arrays of ``encode_target`` with one entry per token or per object: a batch pads them.
    """
    Options: ClassVar[type[TaskOptions]] = TaskOptions
    Learned: ClassVar[type[LearnedState]] = LearnedState
    """The form of ``learned``."""

    options: Any
    """An instance of ``Options``."""

    def __init__(self, target: str, options: TaskOptions, *, context: TaskContext = NOTHING_KNOWN) -> None:
        """Raises ConfigError where the context does not go with this task."""
        self.target = target
        self.options = options
        self.context = context
        self.temperature = 1.0
        """What logits are divided by; fitted by calibration."""
        self.calibration = Calibration()

    @property
    def chosen_by(self) -> tuple[str, bool]:
        """The metric by which weights and settings are chosen, and whether less of it is better."""
        named = self.options.metric
        return (named, named in LOWER_IS_BETTER) if named else (self.primary_metric, self.lower_is_better)

    # -- before training ----------------------------------------------------------------------------------------------

    @abstractmethod
    def learn(self, rows: Sequence[Row]) -> list[str]:
        """Reads label set or scale from the training rows; returns messages for the user.

        Raises:
            SchemaError: the target cannot be learned from (missing everywhere, one class only, of the wrong type).
        """

    def missing_everywhere(self, column_of: str) -> SchemaError:
        """The error that ``learn`` raises where no row has a value; column_of: what the column should hold."""
        return SchemaError(
            f"target {self.target!r} is missing in every training row", hint=f"Name the column that holds {column_of}."
        )

    def missing_in_some(self, present: Sequence[Any], rows: Sequence[Any]) -> list[str]:
        """The message of ``learn`` where only the ``present`` ones among the rows have a value; none otherwise."""
        missing = len(rows) - len(present)
        message = f"{missing} of {len(rows)} training rows have no {self.target!r}: they do not train it"
        return [message] if missing else []

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
    def decode(self, outputs: Sequence[Arrays], layouts: Layouts, texts: Sequence[FieldText]) -> list[Prediction]:
        """One prediction per row, from the head's outputs for all windows of one document.

        outputs, layouts: one per window; texts: one per row, empty where the model reads no text. A document has one
        row unless the task ``reads_document``.
        """

    def answer_schema(self) -> dict[str, Any]:
        """JSON schema of a prediction's value in JSON terms; {} for anything."""
        return {}

    def answer_columns(self, *, probabilities: bool = False) -> list[AnswerColumn]:
        """What of a prediction stands in a table, beside the user's own columns. probabilities: also a column for the
        probability of each class, where it answers with classes.
        """
        return [predicted(self.target, "nested"), confidence(self.target)]

    @abstractmethod
    def evaluate(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> Evaluation:
        """Scores predictions against ``gold`` values, row by row.

        Raises:
            SchemaError: no row has a gold value.
        """

    def labeled(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> list[tuple[Prediction, Any]]:
        """The pairs of prediction and gold value that ``evaluate`` compares: those of rows that have a label.

        Raises:
            SchemaError: there are none.
        """
        pairs = [(p, gold) for p, gold in zip(predictions, golds, strict=True) if gold is not None]
        if not pairs:
            raise SchemaError(f"no row has a value for target {self.target!r}: nothing to measure")
        return pairs

    # -- state --------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "config": self.options.model_dump(),
            "temperature": self.temperature,
            "calibration": self.calibration.to_dict(),
            **self.learned(),
        }

    @abstractmethod
    def learned(self) -> dict[str, Any]:
        """What ``learn`` and calibration found, as JSON."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of ``learned``; state: of the form ``Learned``."""

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Task:
        """The inverse of ``state``; options that the task does not know any more are left out.

        Raises:
            ValueError: it has not the form of ``Options`` and ``Learned``.
        """
        saved = {**state["config"], **(state.get(cls.kind, {}) if cls.kind in OLD_SECTIONS else {})}
        task = cls(state["target"], cls.Options(**{k: v for k, v in saved.items() if k in cls.Options.model_fields}))
        task.take(state)
        return task

    def take(self, state: Mapping[str, Any]) -> None:
        """Learns and is calibrated as the task that has this ``state``; its options stay. Raises ValueError."""
        learned = self.Learned.model_validate(state)
        self.temperature = learned.temperature
        self.calibration = Calibration() if learned.calibration is None else learned.calibration.restored()
        self.restore(learned.model_dump())


def details_of(prediction: Prediction, kind: type[D]) -> D:
    """The details of a prediction whose task gives those of class ``kind``."""
    assert isinstance(prediction.details, kind)
    return prediction.details


def label_set(target: str, configured: Sequence[str] | None, in_rows: Iterable[str]) -> list[str]:
    """The labels to learn: the ``configured`` ones, otherwise those of the training rows, sorted.

    Raises:
        SchemaError: a label of the training rows is not among the configured ones.
    """
    in_rows = set(in_rows)
    labels = list(configured or sorted(in_rows))
    if unknown := sorted(in_rows - set(labels)):
        raise SchemaError(
            f"label {unknown[0]!r} of target {target!r} is not in the given label set. "
            f"{did_you_mean(unknown[0], labels)}"
        )
    return labels


SHOWN_LABELS = 200
"""Labels that a schema lists; of more it says the type alone."""


def labels_schema(labels: Sequence[Any]) -> dict[str, Any]:
    """JSON schema of one label out of these."""
    kinds = {bool: "boolean", int: "integer", float: "number"}
    if len(labels) <= SHOWN_LABELS:
        return {"enum": list(labels)}
    return {"type": sorted({kinds.get(type(label), "string") for label in labels})}


def spans_schema(labels: Sequence[str]) -> dict[str, Any]:
    """JSON schema of a list of spans: characters start … end (exclusive) of the text, counted as Python does."""
    properties = {"start": {"type": "integer"}, "end": {"type": "integer"}, "label": labels_schema(labels)}
    properties |= {name: {"type": kind} for name, kind in _OF_SPANS.items()}
    required = ["start", "end", "label", "text"]
    return {"type": "array", "items": {"type": "object", "properties": properties, "required": required}}


_OF_SPANS = {"text": "string", "score": "number", "probability": "number", "abstained": "boolean"}


def log_softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Over the last axis, in float64, so that decoding does not depend on the training precision."""
    scaled = logits.astype(np.float64) / temperature
    shifted = scaled - scaled.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
