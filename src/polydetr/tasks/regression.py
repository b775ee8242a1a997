"""One number per row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from polydetr.core.examples import Arrays
from polydetr.core.layout import FieldText, Layouts
from polydetr.core.predictions import Evaluation, Prediction
from polydetr.core.records import Row
from polydetr.errors import Location, RowError, SchemaError
from polydetr.metrics.regression import regression_report
from polydetr.tasks.base import Task, WindowView
from polydetr.values.cells import decimal_marks, read_number


class RegressionTask(Task):
    """The target is standardized with the training rows' mean and standard deviation."""

    kind: ClassVar[str] = "regression"
    primary_metric: ClassVar[str] = "rmse"
    lower_is_better: ClassVar[bool] = True

    mean: float = 0.0
    std: float = 1.0
    comma: bool = False
    """Whether numbers given as text have a decimal comma."""

    def learn(self, rows: Sequence[Row]) -> list[str]:
        marks = decimal_marks(row.get(self.target) for row in rows)
        self.comma = marks.comma
        present = [value for row in rows if (value := self._number(row.get(self.target))) is not None]
        if not present:
            raise self.missing_everywhere("the numbers")
        self.mean, self.std = float(np.mean(present)), float(np.std(present))
        if self.std == 0:
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
        return [Prediction(self.mean + self.std * scaled)]

    def evaluate(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> Evaluation:
        pairs = self.labeled(predictions, golds)
        report = regression_report([gold for _, gold in pairs], [p.value for p, _ in pairs])
        return Evaluation(report.to_dict())

    def learned(self) -> dict[str, Any]:
        return {"mean": self.mean, "deviation": self.std, "comma": self.comma}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.mean, self.std = float(state["mean"]), float(state["deviation"])
        self.comma = bool(state.get("comma", False))
