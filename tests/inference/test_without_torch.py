"""The rooms that prepare rows and decode answers do without torch: every task's recorded outputs become the same
answers and scores in a process where it cannot be imported.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from saved_outputs import answers_of

from polydetr.core.examples import Example
from polydetr.core.runner import Outputs, Runner
from polydetr.data.readers import read_records
from polydetr.engine.measure import evaluate_results
from polydetr.inference.load import load_engine

TESTS = Path(__file__).parents[1]
SAVED = TESTS / "model" / "saved_by_old"
NAMES = sorted(path.name for path in SAVED.iterdir() if (path / "model").is_dir())
HEAVY = "torch,scipy,sklearn,pyarrow,matplotlib,rich,lightning,lightning_fabric,transformers,pandas,polars"


class Recorder:
    """Keeps what a runner says, call by call."""

    def __init__(self, runner: Runner) -> None:
        self.runner, self.arrays, self.calls = runner, {}, 0

    def run(
        self, examples: Sequence[Example], targets: Sequence[str], *, seed: int, numbers: Sequence[int]
    ) -> list[Outputs]:
        found = self.runner.run(examples, targets, seed=seed, numbers=numbers)
        for i, outputs in enumerate(found):
            for target, arrays in outputs.items():
                self.arrays |= {f"{self.calls}|{i}|{target}|{name}": array for name, array in arrays.items()}
        self.calls += 1
        return found


def asked_without(blocked: str, name: str, rows: Path, tmp_path: Path, *, how: str) -> tuple[Any, Any]:
    """What this process, with torch, answers to the rows, and what another one without the packages does."""
    engine, _ = load_engine(SAVED / name / "model", precision="fp32")
    recorder = Recorder(engine.runner)
    engine = engine.with_runner(recorder)
    if rows.suffix == ".csv":
        engine = engine.only("intent")
    given = json.loads(rows.read_text(encoding="utf-8")) if how != "file" else rows
    measured = how != "unmeasured"
    results = list(engine.run(read_records(given), with_targets=measured))
    evaluations = evaluate_results(engine, results) if measured else {}
    metrics = {target: dict(e.metrics) for target, e in evaluations.items()}
    np.savez(tmp_path / "outputs.npz", **recorder.arrays)
    places = (SAVED / name / "model", rows, tmp_path / "outputs.npz", tmp_path / "answers.json")
    paths = os.pathsep.join([str(TESTS / "inference"), *sys.path])
    subprocess.run(
        [sys.executable, str(TESTS / "inference" / "torch_free.py"), blocked, *map(str, places), how],
        check=True, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    expected = json.loads(json.dumps({"answers": answers_of(results), "metrics": metrics}))
    return json.loads((tmp_path / "answers.json").read_text(encoding="utf-8")), expected


def check(found: Any, expected: Any) -> None:
    print(f"{found['modules']} modules of the rooms without torch were imported")
    assert found["modules"] > 60
    assert found["answers"] == expected["answers"]
    for target, metrics in expected["metrics"].items():
        assert found["metrics"][target] == pytest.approx(metrics, nan_ok=True)


def test_a_csv_is_read_encoded_decoded_and_measured_where_torch_is_blocked(tmp_path: Path) -> None:
    rows = json.loads((SAVED / "text" / "rows.json").read_text(encoding="utf-8"))
    path = tmp_path / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([["text", "intent"], *([row["text"], row["intent"]] for row in rows)])
    check(*asked_without("torch", "text", path, tmp_path, how="file"))


@pytest.mark.parametrize("name", NAMES)
def test_every_tasks_outputs_become_the_same_answers_without_anything_heavy(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(SAVED / name)
    rows, how = SAVED / name / "rows.json", "memory"
    if name == "generation":  # whose images are painted, not measured
        sides = [{"side": row["side"]} for row in json.loads(rows.read_text(encoding="utf-8"))]
        rows, how = tmp_path / "rows.json", "unmeasured"
        rows.write_text(json.dumps(sides), encoding="utf-8")
    check(*asked_without(HEAVY, name, rows, tmp_path, how=how))
