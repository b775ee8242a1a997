"""What a model answers to a row, and what is measured of many answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from polydetr.core.layout import FieldText
from polydetr.core.records import Finding, Record
from polydetr.errors import RowError


@dataclass(frozen=True)
class Prediction:
    """A task's answer for one row: ``value`` in JSON terms, its calibrated probability, and what else is to tell."""

    value: Any
    probability: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """A task's scores: ``metrics`` by their standard names, ``tables`` as printed text, ``data`` as JSON, ``figures``
    for plots.
    """

    metrics: Mapping[str, float]
    tables: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)


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
