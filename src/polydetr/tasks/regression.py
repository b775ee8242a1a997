"""One number per row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from polydetr.core.examples import Arrays
from polydetr.core.layout import FieldText, Layouts
from polydetr.core.mistakes import Mistake
from polydetr.core.predictions import Baseline, Details, Evaluation, Figures, Prediction
from polydetr.core.records import Row
from polydetr.core.tables import AnswerColumn, predicted
from polydetr.errors import Location, RowError, SchemaError
from polydetr.metrics.calibration import conformal_width
from polydetr.metrics.figures import NumberFigures
from polydetr.metrics.regression import regression_report
from polydetr.metrics.suspicion import far_out
from polydetr.tasks.base import LearnedState, Task, WindowView, details_of
from polydetr.tasks.explained import Answer, Counterpart, Reading, no_choice
from polydetr.values.cells import decimal_marks, read_number

LEVEL = 0.9
"""The probability with which an interval holds the true value."""


@dataclass(frozen=True)
class QuantityDetails(Details):
    """interval: (low, high), which holds the true value 9 times in 10; None where no rows told its width."""

    interval: tuple[float, float] | None = None


class RegressionTask(Task):
    """The target is standardized with the training rows' mean and standard deviation."""

    kind: ClassVar[str] = "regression"
    primary_metric: ClassVar[str] = "r2"
    """Orders models as the RMSE does, and has no unit: beside other targets it weighs no more than they do."""

    class Learned(LearnedState):
        mean: float
        deviation: float = Field(gt=0)
        comma: bool = False
        half_width: float | None = Field(default=None, ge=0)

    mean: float = 0.0
    std: float = 1.0
    comma: bool = False
    """Whether numbers given as text have a decimal comma."""
    half_width: float | None = None
    """Of the interval; None where it is not known."""

    def learn(self, rows: Sequence[Row]) -> list[str]:
        marks = decimal_marks(row.get(self.target) for row in rows)
        self.comma = marks.comma
        present = [value for row in rows if (value := self._number(row.get(self.target))) is not None]
        if not present:
            raise self.missing_everywhere("the numbers")
        self.mean, self.std = float(np.mean(present)), float(np.std(present))
        if max(present) == min(present) or self.std == 0:  # the mean of equal tenths may be next to them
            raise SchemaError(
                f"target {self.target!r} is {self.mean:g} in all {len(present)} training rows: nothing to learn"
            )
        return [message for message in [marks.message(self.target)] if message] + self.missing_in_some(present, rows)

    def _number(self, value: Any) -> float | None:
        try:
            return read_number(value, column=self.target, comma=self.comma)
        except RowError as error:
            hint = f"Leave the cell empty where the value is unknown; for labels write {self.target}:classification."
            raise RowError(error.message, location=Location(column=self.target), hint=hint) from None

    def encode_target(self, view: WindowView) -> Arrays:
        value = view.golds[0]
        scaled = 0.0 if value is None else (value - self.mean) / self.std
        return {"value": np.array(scaled, dtype=np.float32), "known": np.array(value is not None, dtype=np.float32)}

    def gold(self, row: Row, text: FieldText | None) -> float | None:
        return self._number(row.get(self.target))

    def decode(self, outputs: Sequence[Arrays], layouts: Layouts, texts: Sequence[FieldText]) -> list[Prediction]:
        scaled = float(np.mean([o["logits"][0] for o in outputs]))
        value = self.mean + self.std * scaled
        known = self.half_width is not None
        interval = (value - self.half_width, value + self.half_width) if known else None  # type: ignore[operator]
        return [Prediction(value, None, QuantityDetails(interval))]

    def answer_schema(self) -> dict[str, Any]:
        return {"type": "number"}

    def answer_columns(self, *, probabilities: bool = False) -> list[AnswerColumn]:
        def end(number: int) -> Callable[[Prediction], float | None]:
            return lambda p: interval[number] if (interval := details_of(p, QuantityDetails).interval) else None

        columns = [predicted(self.target, "number")]
        if self.half_width is not None:
            ends = (("low", 0), ("high", 1))
            columns += [AnswerColumn(f"{self.target}_{name}", "number", end(number)) for name, number in ends]
        return columns

    def conform(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> list[str]:
        residuals = [p.value - gold for p, gold in zip(predictions, golds, strict=True) if gold is not None]
        width = conformal_width(residuals, LEVEL)
        if not np.isfinite(width):
            return [f"{self.target!r}: {len(residuals)} labeled validation rows are too few for intervals"]
        self.half_width = width
        return [
            f"{self.target!r}: intervals of ±{width:.4g} hold the true value {LEVEL:.0%} of the time "
            f"({len(residuals)} validation rows)"
        ]

    def evaluate(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> Evaluation:
        pairs = self.labeled(predictions, golds)
        report = regression_report([gold for _, gold in pairs], [p.value for p, _ in pairs])
        metrics = report.to_dict()
        if self.half_width is not None:
            held = [abs(p.value - gold) <= self.half_width for p, gold in pairs]
            metrics |= {"interval_coverage": float(np.mean(held)), "interval_width": 2 * self.half_width}
        figures = NumberFigures(np.array([gold for _, gold in pairs]), np.array([p.value for p, _ in pairs]))
        return Evaluation(metrics, figures=figures)

    @property
    def mistake_kinds(self) -> Mapping[str, str]:
        return {"residual": "Every row is a little wrong; these are the largest differences, the largest first."}

    def mistakes(
        self, predictions: Sequence[Prediction], golds: Sequence[Any], figures: Figures
    ) -> Iterator[tuple[int, Mistake]]:
        pairs = [(i, p, g) for i, (p, g) in enumerate(zip(predictions, golds, strict=True)) if g is not None]
        residuals = np.array([p.value - gold for _, p, gold in pairs])
        rmse = float(np.sqrt(np.mean(residuals**2))) or 1.0
        suspicious = far_out(np.array([p.value for _, p, _ in pairs]), residuals)
        for (row, prediction, gold), residual, doubted in zip(
            pairs, residuals.tolist(), suspicious.tolist(), strict=True
        ):
            if not residual:
                continue
            note = f"{residual:+.4g}, {abs(residual) / rmse:.1f} times the RMSE"
            interval = details_of(prediction, QuantityDetails).interval
            if interval is not None and not interval[0] <= gold <= interval[1]:
                note += f"; outside its interval from {interval[0]:.5g} to {interval[1]:.5g}"
            side = "too high" if residual > 0 else "too low"
            yield row, Mistake(
                "residual", abs(residual), f"{gold:.6g}", f"{prediction.value:.6g}", (side,),
                suspicious=doubted, note=note,
            )  # fmt: skip

    def baseline(self, golds: Sequence[Any]) -> Baseline | None:
        """Of the rows' mean: its RMSE is their standard deviation."""
        deviation = float(np.std(golds)) if np.ptp(golds) else 0.0
        return Baseline("rmse", deviation, float(np.mean(golds)), lower_is_better=True) if deviation else None

    def answer_of(self, reading: Reading, choice: Any, *, counterpart: Counterpart) -> Answer:
        from polydetr.tasks.explained_rows import ValueAnswer

        no_choice(self, choice)
        return ValueAnswer.of(self, reading)

    def learned(self) -> dict[str, Any]:
        return {"mean": self.mean, "deviation": self.std, "comma": self.comma, "half_width": self.half_width}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.mean, self.std, self.comma = state["mean"], state["deviation"], state["comma"]
        self.half_width = state["half_width"]
