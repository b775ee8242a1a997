"""What of every task's answer stands in a table, by the task's own columns."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from test_task_contract import CASES, Case

from polydetr import LoadedModel
from polydetr.schema.infer import infer_schema
from tiny_models import make_engine

COLUMNS = {
    "several labels": {"predicted_label": str, "label_confidence": float},
    "qa": {"predicted_answers": str, "answers_confidence": float, "answers_start": int, "answers_end": int},
    "parts of speech": {"predicted_pos": str, "pos_text": str, "pos_confidence": float},
    "entities": {"predicted_entities": str, "entities_text": str},
    "detection, detr": {"predicted_objects": str, "objects_text": str},
    "embedding, text to text": {"predicted_answer": list},
    "generation": {"predicted_picture": str},
    "table": {"predicted_label": str, "label_confidence": float},
}


@pytest.mark.parametrize("case", [case for case in CASES if case.name in COLUMNS], ids=lambda case: case.name)
def test_its_columns_hold_its_answers(case: Case, tmp_path: Path) -> None:
    engine = make_engine(case.rows, case.target, inputs=case.inputs, settings=case.settings)
    schema = infer_schema(case.rows, targets=case.target, inputs=case.inputs)
    model = LoadedModel(engine, {"schema": schema.to_dict()})
    model.write(case.rows, tmp_path / "a.parquet", html=tmp_path / "a.html")
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    own = list(case.rows[0])
    assert list(rows[0]) == [*own, *COLUMNS[case.name], "warnings", "error"]
    for name, kind in COLUMNS[case.name].items():
        assert {type(row[name]) for row in rows} <= {kind, type(None)}
        assert any(row[name] is not None for row in rows)
    (target,) = case.target
    for row, answer in zip(rows, model.predictions(case.rows), strict=True):
        value, cell = answer[target].value, row[f"predicted_{target}"]
        if case.name == "generation":
            assert (tmp_path / cell).read_bytes().startswith(b"\x89PNG")
        elif case.name == "qa":
            assert (cell, row["answers_start"], row["answers_end"]) == (value["text"], value["start"], value["end"])
        elif isinstance(value, list) and kind is not list:
            assert json.loads(cell) == value
        else:
            assert cell == pytest.approx(value, abs=1e-6)
    assert (tmp_path / "a.html").read_text(encoding="utf-8").count("<article") == len(rows)
