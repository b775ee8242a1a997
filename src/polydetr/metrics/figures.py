"""What the scores of a task are drawn from: one class per kind of plots. Reports ask for these, not for a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from polydetr.core.predictions import Figures
from polydetr.core.records import Record

if TYPE_CHECKING:  # what only answers measures nothing
    from polydetr.metrics.classification import ClassReport
    from polydetr.metrics.detection import DetectionReport
    from polydetr.metrics.entities import EntityReport


@dataclass(frozen=True)
class ClassFigures(Figures):
    """Of answers that are right or wrong: a confusion matrix and a reliability curve.

    classes: the report by class; confidence, correct: of each answer (of each word, where words have labels); entities:
    the report of spans by type, where the labels of words are tags of entities.
    """

    classes: ClassReport
    confidence: Sequence[float]
    correct: Sequence[bool]
    entities: EntityReport | None = None


@dataclass(frozen=True)
class SpanFigures(Figures):
    """entities: the report of spans by type."""

    entities: EntityReport


@dataclass(frozen=True)
class BoxFigures(Figures):
    """Of boxes in images: curves, and the worst mistakes shown in their images.

    gold, predicted: the boxes of each measured row; rows: the numbers of these rows; records: the rows themselves, once
    they are known.
    """

    report: DetectionReport
    gold: Sequence[Sequence[Mapping[str, Any]]]
    predicted: Sequence[Sequence[Mapping[str, Any]]]
    rows: Sequence[int]
    records: Sequence[Record] = ()

    def of_records(self, records: Sequence[Record]) -> Self:
        """With the measured ones among all ``records``."""
        return replace(self, records=[records[i] for i in self.rows])


@dataclass(frozen=True)
class NumberFigures(Figures):
    """Of numbers: predicted against true, and their differences. gold, predicted: (N,), in the target's unit."""

    gold: NDArray[np.float64]
    predicted: NDArray[np.float64]


@dataclass(frozen=True)
class RankFigures(Figures):
    """Of values that are found among those of other rows. rows: the numbers (N,) of the measured rows; ranks: of each
    one's own value; first: the number of a row whose value came first.
    """

    rows: NDArray[np.int64]
    ranks: NDArray[np.int64]
    first: NDArray[np.int64]
    candidates: int
