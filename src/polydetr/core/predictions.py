"""What a model answers to a row, and what is measured of many answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from polydetr.core.layout import FieldText
from polydetr.core.records import Finding, Record
from polydetr.errors import RowError


@dataclass(frozen=True)
class Details:
    """What a task tells beside its answer. Each has a class of its own, in its file; this one tells nothing."""


@dataclass(frozen=True)
class Figures:
    """What a task's scores are drawn from. Each that has plots has a class of its own; this one shows nothing."""


@runtime_checkable
class ByLabel(Protocol):
    """Details that give the probability of every label."""

    @property
    def probabilities(self) -> Mapping[str, float]: ...


@runtime_checkable
class Scoped(Protocol):
    """Details that say whether a row is like the training rows; None: that is not known."""

    @property
    def in_scope(self) -> bool | None: ...


@dataclass(frozen=True)
class Prediction:
    """A task's answer for one row: ``value`` in JSON terms, its calibrated probability, and what else is to tell."""

    value: Any
    probability: float | None = None
    details: Details = Details()


@dataclass(frozen=True)
class Evaluation:
    """A task's scores: ``metrics`` by their standard names, ``tables`` as printed text, ``data`` as JSON, ``figures``
    for plots.
    """

    metrics: Mapping[str, float]
    tables: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    figures: Figures = Figures()


@dataclass(frozen=True)
class RowResult:
    """What became of one row: its predictions by target, or the error that rejected it. golds: its labels by target,
    where rows are measured.
    """

    record: Record
    predictions: Mapping[str, Prediction]
    text: FieldText | None = None
    error: RowError | None = None
    warnings: Sequence[Finding] = ()
    golds: Mapping[str, Any] = field(default_factory=dict)
