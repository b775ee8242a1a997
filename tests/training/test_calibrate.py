"""Without a mistake no validation row shows how confident is too confident."""

from __future__ import annotations

import pytest
from tiny_runs import film_rows

from polydetr.training.calibrate import calibrate
from polydetr.training.encode import MeasuredRows
from tiny_models import answers, as_records, make_assembly, metrics, overfit


@pytest.mark.parametrize("mistakes", [0, 1])
def test_only_validation_rows_with_a_mistake_may_sharpen_the_answers(mistakes: int) -> None:
    rows = film_rows(24)
    assembly = make_assembly(rows, {"label": "classification"})
    engine = assembly.engine
    overfit(engine, rows, steps=10)
    assert metrics(engine, rows)["label"]["accuracy"] == 1
    sure = [answer.predictions["label"].probability or 0.0 for answer in answers(engine, rows)]
    assert max(sure) < 0.9, "the model was to be less sure than it is right"
    valid = [{**row, "label": "good"} if i < mistakes else row for i, row in enumerate(rows)]
    measured = MeasuredRows(list(engine.encode(as_records(valid), with_targets=True)), {})  # type: ignore[arg-type]
    calibrate(assembly, measured, notify=lambda line: None)
    temperature = engine.tasks["label"].temperature
    if mistakes:
        assert 0.05 < temperature < 0.9
    else:
        assert temperature == 1
