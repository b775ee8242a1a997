"""Whether another way to compute a model answers as well: no target is passed over, whatever its metric is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from polydetr.core.predictions import Evaluation, RowResult
from polydetr.engine.engine import Engine
from polydetr.errors import ConfigError, PolydetrError
from polydetr.inference import proof
from polydetr.inference.kept_rows import KeptRows
from polydetr.inference.proof import Measured, check_max_drop, proved

TASKS = {
    "kind": SimpleNamespace(primary_metric="accuracy", lower_is_better=False),
    "weight": SimpleNamespace(primary_metric="rmse", lower_is_better=True),
}


def engine(accuracy: float, rmse: float | None) -> Engine:
    """One that these figures are measured of; None: the rows have no label of the target."""
    found = {"kind": Evaluation({"accuracy": accuracy})}
    found |= {} if rmse is None else {"weight": Evaluation({"rmse": rmse})}
    return cast(Engine, SimpleNamespace(tasks=TASKS, found=found))


@pytest.fixture(autouse=True)
def figures(monkeypatch: pytest.MonkeyPatch) -> None:
    row = cast(RowResult, SimpleNamespace(predictions={"kind": SimpleNamespace(probability=0.9)}))
    monkeypatch.setattr(proof, "measured_by", lambda engine, rows: Measured([row], engine.found))


def prove(before: Engine, after: Engine) -> Mapping[str, Any]:
    return proved(before, after, KeptRows([]), max_drop=0.5, how="here it answers otherwise").to_dict()


@pytest.mark.parametrize(
    ("accuracy", "rmse", "said"),
    [
        (0.9, None, "none has a label of 'weight'"),
        (0.9, math.nan, "rmse of 'weight' is nan"),
        (math.nan, None, "none has a label of 'weight', accuracy of 'kind' is nan"),
    ],
)
def test_a_target_that_these_rows_do_not_measure_is_named(accuracy: float, rmse: float | None, said: str) -> None:
    with pytest.raises(ConfigError, match=f"{said}.*labels of every target: --rows FILE"):
        prove(engine(accuracy, rmse), engine(0.9, 1.0))


@pytest.mark.parametrize("after", [(math.nan, 1.0), (0.9, math.nan), (0.9, math.inf), (0.8, 1.0), (0.9, 3.5)])
def test_a_metric_that_falls_or_is_no_number_is_refused_with_a_remedy_that_exists(after: tuple[float, float]) -> None:
    assert prove(engine(0.9, 1.0), engine(0.91, 1.0))["changes"][0]["points"] == -1.0
    with pytest.raises(PolydetrError, match=r"here it answers otherwise: .* points worse") as told:
        prove(engine(0.9, 1.0), engine(*after))
    hint = str(told.value.hint)
    assert hint.endswith("export without --int8 (int8=True).")
    if "--max-drop" in hint:
        check_max_drop(float(hint.split("--max-drop ")[1].split()[0]))
    assert ("--max-drop" in hint) == (after == (0.8, 1.0))
