"""How far a run has got, for whoever looks at its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_runs import train

from polydetr.inference.folder import PROGRESS
from polydetr.inference.runs import list_runs, running_runs
from polydetr.training.callbacks import StepInfo
from polydetr.training.progress_file import ProgressFile


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYDETR_CACHE", str(tmp_path / "cache"))


def info(step: int) -> StepInfo:
    return StepInfo(step / 10, step, step / 5, 0.5, 100.0, "100 tokens/s", 10.0 - step, 0.001)


def test_it_says_what_a_progress_bar_says_and_every_evaluation(tmp_path: Path) -> None:
    display = ProgressFile(tmp_path / "a.checkpoint", history=[{"step": 1}])
    display.note("reads 12 rows")
    path = tmp_path / "a.checkpoint" / PROGRESS
    assert json.loads(path.read_text())["doing"] == "reads 12 rows"
    display.step(info(2))
    display.step(info(3))  # within the same second
    display.evaluation({"step": 3, "score": 0.5})
    said = json.loads(path.read_text())
    assert (said["progress"], said["step"], said["remaining_seconds"], said["doing"]) == (0.2, 2, 8.0, "")
    assert [entry["step"] for entry in said["history"]] == [1, 3]


def test_a_place_that_cannot_be_written_does_not_end_the_run(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    ProgressFile(tmp_path / "taken", history=[]).step(info(1))


def test_a_run_under_way_tells_it_and_a_finished_one_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    evaluation = ProgressFile.evaluation

    def looked(self: ProgressFile, entry: dict) -> None:
        evaluation(self, entry)
        seen.extend(running_runs(tmp_path))

    monkeypatch.setattr(ProgressFile, "evaluation", looked)
    train(tmp_path / "model", epochs=2)
    assert [run.name for run in seen] == ["model"] * len(seen)
    assert [len(run.curve) for run in seen] == list(range(1, len(seen) + 1))
    assert not (tmp_path / "model.checkpoint").exists()
    assert running_runs(tmp_path) == []
    assert [run.state for run in list_runs(tmp_path)] == ["finished"]


def test_no_rows_are_kept_where_none_are_to_be_kept(tmp_path: Path) -> None:
    train(tmp_path / "some", epochs=0.5)
    train(tmp_path / "none", epochs=0.5, settings={"training": {"keep_rows": 0}})
    assert list((tmp_path / "some" / "reports").glob("*-rows.jsonl"))
    assert not list((tmp_path / "none" / "reports").glob("*-rows.jsonl"))
