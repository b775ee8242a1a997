"""Scores on few rows are never shown without their interval."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from polydetr.core.predictions import Evaluation
from polydetr.engine.intervals import FEW_ANSWERS, with_intervals
from polydetr.metrics.calibration import wilson_interval
from polydetr.metrics.figures import ClassFigures


def evaluated(rows: int, *, accuracy: float = 0.75) -> Evaluation:
    right = [i < accuracy * rows for i in range(rows)]
    figures = ClassFigures(classes=None, confidence=[0.9] * rows, correct=right)  # type: ignore[arg-type]
    return Evaluation({"accuracy": accuracy}, {}, {}, figures=figures)


def tasks(*, per_token: bool = False) -> dict[str, Any]:
    return {"label": SimpleNamespace(per_token=per_token)}


@pytest.mark.parametrize(("rows", "always", "shown"), [(20, False, True), (FEW_ANSWERS, False, False),
                                                       (FEW_ANSWERS, True, True), (0, True, False)])  # fmt: skip
def test_the_accuracy_on_few_rows_has_its_interval(rows, always, shown):
    found = with_intervals(tasks(), {"label": evaluated(rows)}, always=always)["label"]
    assert ("accuracy_low" in found.metrics) == shown
    if shown:
        assert (found.metrics["accuracy_low"], found.metrics["accuracy_high"]) == wilson_interval(0.75, rows)
        assert f"of {rows} rows" in found.tables["interval"]


def test_words_of_one_row_are_no_rows():
    found = with_intervals(tasks(per_token=True), {"label": evaluated(20)})["label"]
    assert "accuracy_low" not in found.metrics


def test_scores_that_are_no_share_of_right_answers_stay_as_they_are():
    evaluation = Evaluation({"rmse": 1.0}, {}, {})
    assert with_intervals(tasks(), {"label": evaluation}) == {"label": evaluation}
