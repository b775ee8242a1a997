"""A model's prediction for a row, and the evaluation of many predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from polydetr.core.layout import FieldText
from polydetr.core.mistakes import Mistakes
from polydetr.core.records import Finding, Record
from polydetr.errors import RowError


@dataclass(frozen=True)
class Details:
    """What a task gives beside its answer. Each task may have a class of its own, in its file; this one is empty."""


@dataclass(frozen=True)
class Figures:
    """The data of a task's plots. Each task that has plots has a class of its own; this one is empty."""


@runtime_checkable
class ByLabel(Protocol):
    """Details that give the probability of every label."""

    @property
    def probabilities(self) -> Mapping[Any, float]: ...


@runtime_checkable
class Scoped(Protocol):
    """Details that say whether a row is like the training rows; None: that is not known."""

    @property
    def in_scope(self) -> bool | None: ...


@runtime_checkable
class Bounded(Protocol):
    """Details of a quantity that give an interval around it; None: its width is not known."""

    @property
    def interval(self) -> tuple[float, float] | None: ...


@dataclass(frozen=True)
class Prediction:
    """A task's answer for one row: ``value`` in JSON terms, its calibrated probability, and the task's own details.

    abstained: the answer is withheld, as its probability is below the one asked for; ``value`` is then the best guess.
    Of a list of answers each item has its own "abstained".
    """

    value: Any
    probability: float | None = None
    details: Details = Details()
    abstained: bool = False

    @property
    def items(self) -> list[Mapping[str, Any]]:
        """Spans or boxes, where the answer is a list of them."""
        return [item for item in self.value if isinstance(item, Mapping)] if isinstance(self.value, list) else []


WITHHELD = "{} withheld"
"""How a label is called for people at an answer that is withheld."""


def is_withheld(item: Mapping[str, Any]) -> bool:
    """Whether this one of a list of answers is."""
    return bool(item.get("abstained", False))


def label_of(item: Mapping[str, Any]) -> str:
    """The label of one of a list of answers, for people."""
    return WITHHELD.format(item["label"]) if is_withheld(item) else item["label"]


@dataclass(frozen=True)
class Baseline:
    """What one answer, the same for every row, reaches on measured rows: by which metric, its value, the answer; None
    where that is to find nothing. lower_is_better: of this metric.
    """

    metric: str
    value: float
    answer: Any = None
    lower_is_better: bool = False


@dataclass(frozen=True)
class Evaluation:
    """A task's scores: ``metrics`` by their standard names, ``tables`` as printed text, ``data`` as JSON, ``figures``
    for plots, the worst ``mistakes`` where they were looked for, and ``samples``: a few of the measured rows. rows:
    some hundreds of them in JSON terms (``engine.answered_rows``).
    """

    metrics: Mapping[str, float]
    tables: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    figures: Figures = Figures()
    mistakes: Mistakes | None = None
    samples: Sequence[RowResult] = ()
    rows: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class RowResult:
    """One row answered: its predictions by target, or the error that rejected it. golds: its labels by target, where
    rows are measured.
    """

    record: Record
    predictions: Mapping[str, Prediction]
    text: FieldText | None = None
    error: RowError | None = None
    warnings: Sequence[Finding] = ()
    golds: Mapping[str, Any] = field(default_factory=dict)
