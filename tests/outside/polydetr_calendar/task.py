"""An interval, [from, to]: opening hours, a price range, a forecast with its bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from polydetr.core.examples import Arrays
from polydetr.core.layout import FieldText, Layouts
from polydetr.core.predictions import Details, Evaluation, Prediction
from polydetr.core.records import Row
from polydetr.errors import Location, RowError
from polydetr.tasks.base import NOTHING_KNOWN, Task, TaskContext, TaskOptions, WindowView


@dataclass(frozen=True)
class IntervalDetails(Details):
    width: float


class IntervalTask(Task):
    """Both ends are standardized together, by the mean and the std of the centers and of the half widths."""

    kind: ClassVar[str] = "interval"
    primary_metric: ClassVar[str] = "iou"

    class Options(TaskOptions):
        digits: int = Field(default=2, ge=0, le=9, description="decimals of an answer")

    def __init__(self, target: str, options: TaskOptions, *, context: TaskContext = NOTHING_KNOWN) -> None:
        super().__init__(target, options, context=context)
        self.mean, self.std = np.zeros(2), np.ones(2)

    def learn(self, rows: Sequence[Row]) -> list[str]:
        known = [found for row in rows if (found := self.gold(row, None)) is not None]
        if not known:
            raise self.missing_everywhere("the intervals")
        values = np.array([_middle_and_half(found) for found in known])
        self.mean, self.std = values.mean(0), values.std(0) + 1e-6
        return []

    def gold(self, row: Row, text: FieldText | None) -> tuple[float, float] | None:
        value = row.get(self.target)
        if value is None:
            return None
        try:
            low, high = (float(end) for end in value)
        except (TypeError, ValueError):
            low, high = 1.0, 0.0
        if low > high:
            raise RowError(
                f"{value!r:.80} is no interval.", location=Location(column=self.target), hint="Expected [from, to]."
            )
        return low, high

    def encode_target(self, view: WindowView) -> Arrays:
        gold = view.golds[0]
        scaled = np.zeros(2) if gold is None else (_middle_and_half(gold) - self.mean) / self.std
        return {"ends": scaled.astype(np.float32), "known": np.array(gold is not None, np.float32)}

    def decode(self, outputs: Sequence[Arrays], layouts: Layouts, texts: Sequence[FieldText]) -> list[Prediction]:
        middle, half = self.mean + self.std * np.mean([o["logits"] for o in outputs], axis=0, dtype=np.float64)
        ends = [round(float(end), self.options.digits) for end in (middle - abs(half), middle + abs(half))]
        return [Prediction(ends, details=IntervalDetails(float(2 * abs(half))))]

    def evaluate(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> Evaluation:
        """Intersection over union, the mean over the rows."""
        pairs = [(p.value, g) for p, g in self.labeled(predictions, golds)]
        shared = [max(0.0, min(p[1], g[1]) - max(p[0], g[0])) for p, g in pairs]
        joined = [max(p[1], g[1]) - min(p[0], g[0]) for p, g in pairs]
        return Evaluation({"iou": float(np.mean([s / max(j, 1e-9) for s, j in zip(shared, joined, strict=True)]))})

    def learned(self) -> dict[str, Any]:
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.mean, self.std = np.array(state["mean"]), np.array(state["std"])


def _middle_and_half(interval: tuple[float, float]) -> np.ndarray:
    low, high = interval
    return np.array([(low + high) / 2, (high - low) / 2])
