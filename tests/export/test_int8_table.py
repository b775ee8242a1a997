"""Every task with every modality in 8-bit integers: proved on labeled rows, and a row alone has the answers that it has
among others.

    pytest tests/export/test_int8_table.py -m "slow or not slow"
"""

from __future__ import annotations

from pathlib import Path

import pytest

from polydetr import Predictor
from polydetr.config.loading import merge
from polydetr.inference.model import LoadedModel
from task_pairs import KINDS, OF_TASK, PAIRS, SIZES, assert_alike, rows_of, save_model

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

CLOSE = 1e-4
WIDE = merge(SIZES, {"model": {"embed_dim": 128}})


@pytest.mark.slow  # in the default run are the texts of test_int8.py
@pytest.mark.parametrize(("task", "modality"), [pytest.param(*pair, id="-".join(pair)) for pair in PAIRS])
def test_a_row_alone_is_answered_as_among_others(
    task: str, modality: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    rows = rows_of(task, modality)
    inputs = {name: KINDS[name] for name in rows[0] if name != "y"}
    save_model(rows, {"y": task}, inputs, {**WIDE, "tasks": {"y": OF_TASK.get(task, {})}}, tmp_path / "model")
    exact = Predictor.load(tmp_path / "model", precision="fp32")
    written = exact.export(tmp_path / "int8", int8=True, rows=rows, max_drop=100)
    assert written.rows_are == "validation"
    assert written.proof is not None
    assert written.proof.rows == len(rows)
    model = LoadedModel.load(tmp_path / "int8")
    if task != "generation":  # whose noise goes by the number of the row
        for i in (0, 6):
            (alone,) = model.predictions([rows[i]])
            for others in (rows, [rows[i], *rows[:3]], [rows[7], rows[i]]):
                place = next(number for number, row in enumerate(others) if row is rows[i])
                among = model.predictions(others)[place]
                assert_alike(among, alone, within=CLOSE)
    (change,) = written.proof.changes
    (evaluation,) = model.evaluate(rows).values()
    assert evaluation[change.metric] == pytest.approx(change.after, abs=1e-6)
    products = [node for node in onnx.load(tmp_path / "int8" / "model.onnx").graph.node if "Integer" in node.op_type]
    steps = [onnx.load(path) for path in (tmp_path / "int8").glob("step-*.onnx")]
    assert products or any("Integer" in node.op_type for step in steps for node in step.graph.node)
