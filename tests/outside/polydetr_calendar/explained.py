"""What makes both halves explainable: which number of an interval is explained, and what days it hangs on."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from polydetr.core.documents import Window
from polydetr.core.examples import Arrays
from polydetr.core.records import Row
from polydetr.modalities.units import Part, UnitKind
from polydetr.tasks.explained import Answer, Counterpart, Reading, no_choice

from .modality import WeekdaysModality
from .task import IntervalTask


class ExplainedTask(IntervalTask):
    def answer_of(self, reading: Reading, choice: Any, *, counterpart: Counterpart) -> MiddleAnswer:
        no_choice(self, choice)
        low, high = reading.prediction.value
        return MiddleAnswer(f"{low:g} to {high:g}", (low + high) / 2, float(self.mean[0]), float(self.std[0]))


@dataclass(frozen=True)
class MiddleAnswer(Answer):
    """The middle of the interval."""

    quantity: ClassVar[str] = "middle"
    signed: ClassVar[bool] = False
    is_pooled: ClassVar[bool] = True
    middle: float
    mean: float
    std: float

    def probability(self, reading: Reading) -> float:
        return math.exp(-0.5 * ((self.level(reading) - self.middle) / self.std) ** 2)

    def level(self, reading: Reading) -> float:
        return sum(reading.prediction.value) / 2


class WeekdaysPart(Part):
    group: ClassVar[str] = "weekdays"
    kind: ClassVar[UnitKind] = "columns"

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)

    def blank(self, arrays: Arrays, window: int) -> dict[str, np.ndarray]:
        return {**arrays, "days": np.zeros_like(arrays["days"])}

    def without(self, row: Row, deleted: Collection[int]) -> dict[str, Any]:
        return {**row, **{self.columns[unit]: None for unit in deleted}}


class ExplainedModality(WeekdaysModality):
    def units(self, row: Row, windows: Sequence[Window]) -> WeekdaysPart:
        return WeekdaysPart([field for field in self.fields if row.get(field)])
