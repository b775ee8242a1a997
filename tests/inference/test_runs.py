"""The folder of runs: finished, interrupted, running, failed and damaged ones, and studies; nothing is trusted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from film_models import SETTINGS, Quiet, plain_rows
from polydetr import Predictor
from polydetr.core.lock import held
from polydetr.errors import InputError, Interrupted
from polydetr.inference.folder import MANIFEST, SEAL, WEIGHTS, lock_of, seal_of
from polydetr.inference.run_comparison import (
    UNSET,
    changed_settings,
    curves_beside,
    differing_settings,
    is_like,
    scores_beside,
)
from polydetr.inference.runs import find_runs, list_runs
from polydetr.inference.saved_run import SavedRun
from polydetr.reports.tuning_page import write_study
from polydetr.training.callbacks import StepInfo
from study_records import study


class Stops(Quiet):
    def step(self, info: StepInfo) -> None:
        if info.step == 3:
            os.kill(os.getpid(), signal.SIGINT)


def fit(out: Path, **more: Any) -> None:
    rows = plain_rows(60)
    Predictor.fit(rows, "label", valid=rows[:20], out=out, backbone="none", **{"display": Quiet(), **more})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs and one that was interrupted."""
    runs = tmp_path_factory.mktemp("kept") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYDETR_CACHE", str(runs.parent / "cache"))
        fit(runs / "one-20260101-000000", epochs=2, settings=SETTINGS)
        fit(runs / "two-20260101-000000", epochs=1, settings={**SETTINGS, "seed": 3}, preset="fast")
        with pytest.raises(Interrupted):
            fit(runs / "cut-20260101-000000", epochs=4, settings=SETTINGS, display=Stops())
    return runs


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(trained, tmp_path / "runs"))


def states(folder: Path) -> dict[str, str]:
    return {run.name: run.state for run in list_runs(folder)}


def one(folder: Path, name: str) -> SavedRun:
    (run,) = find_runs([name], folder)
    return run


def described(folder: Path, info: Mapping[str, Any]) -> Path:
    """A model folder with this description, sealed."""
    folder.mkdir(parents=True)
    (folder / WEIGHTS).write_bytes(b"weights")
    whole = {"format_version": 1, "files": {WEIGHTS: {"bytes": 7}}, **info}
    (folder / MANIFEST).write_text(json.dumps({**whole, SEAL: seal_of(whole)}), encoding="utf-8")
    return folder


def test_a_finished_run_tells_what_it_learned(runs: Path) -> None:
    run = one(runs, "one-20260101-000000")
    assert (run.state, run.reason, run.targets) == ("finished", "", {"label": "classification"})
    assert [(target, metric) for target, metric, _ in run.first_metrics("valid")] == [("label", "accuracy")]
    assert run.steps == run.history[-1]["step"]
    assert run.curve[-1] == (run.steps, run.history[-1]["metrics"]["label"]["accuracy"])
    assert 0 < (run.seconds or 0) < 600
    assert run.found("rows", "train", kind=int) == 60


def test_an_interrupted_run_tells_as_much_and_how_to_go_on(runs: Path) -> None:
    run = one(runs, "cut-20260101-000000")
    assert (run.state, run.steps, run.targets) == ("stopped", 3, {"label": "classification"})
    assert f"--out {runs / 'cut-20260101-000000'} --resume" in run.reason
    assert run.folder == runs / "cut-20260101-000000"
    assert changed_settings(run)["epochs"] == (4.0, 5)
    with held(lock_of(Path(os.path.realpath(run.folder))), what="it"):
        assert one(runs, "cut-20260101-000000").state == "running"


def test_a_trial_that_was_interrupted_belongs_to_its_study(runs: Path) -> None:
    trials = runs / "a.study" / "trials"
    trials.mkdir(parents=True)
    (runs / "cut-20260101-000000.checkpoint").rename(trials / "003.checkpoint")
    assert one(trials, "003").reason == "a trial, which its study goes on with"


def test_a_run_before_its_first_checkpoint_runs_or_has_failed(tmp_path: Path) -> None:
    (tmp_path / "early.checkpoint").mkdir()
    assert one(tmp_path, "early").state == "failed"
    with held(lock_of(tmp_path / "early"), what="it"):
        assert one(tmp_path, "early").state == "running"
        assert [run.name for run in list_runs(tmp_path)] == ["early"]


def test_a_second_run_over_a_finished_one_stands_beside_it(runs: Path) -> None:
    (runs / "one-20260101-000000.checkpoint").mkdir()
    assert states(runs) == {
        "one-20260101-000000": "finished", "two-20260101-000000": "finished", "cut-20260101-000000": "stopped",
        "one-20260101-000000.checkpoint": "failed",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "cannot be read"), (b'{"a": ', "cannot be read"), (b"[1]", "holds no description"),
        (b"\xff\xfe", "cannot be read"), (b"[" * 200_000, "cannot be read"), (b"{}", "format None"),
        (b'{"format_version": 99}', "newer version"), (b'{"format_version": 1}', "changed after it was saved"),
    ],
)  # fmt: skip
def test_a_damaged_description_is_told_and_the_others_are_read(runs: Path, content: bytes, says: str) -> None:
    (runs / "one-20260101-000000" / MANIFEST).write_bytes(content)
    run = one(runs, "one-20260101-000000")
    assert run.state == "damaged"
    assert says in run.reason
    assert states(runs)["two-20260101-000000"] == "finished"


def test_missing_and_cut_off_weights_are_told(runs: Path) -> None:
    (runs / "one-20260101-000000" / WEIGHTS).unlink()
    assert one(runs, "one").reason == "model.safetensors is missing"
    (runs / "two-20260101-000000" / WEIGHTS).write_bytes(b"x")
    assert "model.safetensors has 1 bytes, not the" in one(runs, "two").reason
    assert one(runs, "two").metrics  # its description is whole


@pytest.mark.parametrize(
    "info",
    [
        {"metrics": [1], "schema": 3, "config": "x", "training": None, "history": {"a": 1}, "created": 5},
        {"metrics": {"valid": {"a": {"f1": "high", "n": None}}}, "schema": {"targets": [1, {"name": None}]}},
        {"history": [3, {"step": "x"}, {"step": 5, "metrics": [2]}], "config": {"tasks": {"a.b": {"c": 1}}}},
        {"config": {"preset": "slow", "epochs": -3, "steps": "x"}, "training": {"steps": True, "seconds": "x"}},
    ],
)
def test_a_description_of_any_form_is_shown(tmp_path: Path, info: Mapping[str, Any]) -> None:
    described(tmp_path / "odd", info)
    run = one(tmp_path, "odd")
    assert (run.state, run.steps, run.seconds, run.metrics.get("valid", {}), run.curve) == (
        "finished", None if not run.history else run.steps, None, {}, [],
    )  # fmt: skip
    changed_settings(run)
    assert not scores_beside([run, run])


def test_a_damaged_checkpoint_is_told(tmp_path: Path) -> None:
    (tmp_path / "cut.checkpoint").mkdir()
    (tmp_path / "cut.checkpoint" / "last.safetensors").write_bytes(b"\x01\x02")
    assert one(tmp_path, "cut").state == "damaged"
    assert "its checkpoint cannot be read" in one(tmp_path, "cut").reason


def test_what_a_killed_save_put_aside_is_found(runs: Path) -> None:
    (runs / "one-20260101-000000").rename(runs / ".one-20260101-000000.0123456789abcdef.old")
    (run,) = [run for run in list_runs(runs) if run.state == "damaged"]
    assert run.reason == "an interrupted save left it here: rename it to 'one-20260101-000000'"


def test_what_is_no_run_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "events").write_text("x")
    (tmp_path / "nothing").mkdir()
    assert states(tmp_path) == {"nothing": "failed"}
    with pytest.raises(InputError, match=r"'.*logs' is no run: .* A folder of several runs is read by --runs"):
        find_runs([str(tmp_path / "logs")], tmp_path)


def test_names_are_found_by_beginning_by_path_or_refused_with_the_nearest(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert one(runs, "two").name == "two-20260101-000000"
    assert [run.name for run in find_runs(["one", str(runs / "one-20260101-000000"), "two"], runs)] == [
        "one-20260101-000000", "two-20260101-000000",
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"no run 'oen-20260101-000000' in .*Did you mean 'one-20260101-000000'"):
        find_runs(["oen-20260101-000000"], runs)
    shutil.copytree(runs / "one-20260101-000000", runs / "one-20260202-000000")
    with pytest.raises(InputError, match=r"2 runs in .* begin with 'one'"):
        find_runs(["one"], runs)
    with pytest.raises(InputError, match="there is no run ''"):
        find_runs([""], runs)
    monkeypatch.chdir(runs / "one-20260101-000000")
    assert one(runs, ".").state == "finished"
    with pytest.raises(InputError, match="'/' is no run"):
        find_runs(["/"], runs)
    with pytest.raises(InputError, match=r"no run at '/nowhere/at/all'. Check the path"):
        find_runs(["/nowhere/at/all"], runs)
    with pytest.raises(InputError, match=r"cannot be read: No such file.*--runs"):
        list_runs(runs / "nowhere")


def test_a_study_is_read_by_its_record_or_as_far_as_it_has_got(tmp_path: Path) -> None:
    write_study(study(), tmp_path / "a.study")
    run = one(tmp_path, "a.study")
    assert run.study == study()
    assert (run.state, run.steps, run.seconds, list(run.targets)) == ("study", 70, 61.0, ["标签"])
    (tmp_path / "b.study").mkdir()
    assert one(tmp_path, "b.study").reason == "not ended: no trial has begun"
    with sqlite3.connect(tmp_path / "b.study" / "study.db") as file:
        file.execute("CREATE TABLE trials (trial_id INTEGER, state TEXT)")
        file.executemany("INSERT INTO trials VALUES (?, ?)", [(1, "COMPLETE"), (2, "COMPLETE"), (3, "RUNNING")])
    file.close()
    assert one(tmp_path, "b.study").reason == "not ended: 2 complete, 1 running"
    whole = json.loads((tmp_path / "a.study" / "study.json").read_text("utf-8"))
    whole["trials"][1]["curve"][0][1] = None  # was no number
    (tmp_path / "a.study" / "study.json").write_text(json.dumps(whole))
    assert one(tmp_path, "a.study").state == "study"
    whole["trials"][1]["metrics"]["标签"] = {"accuracy": "high"}
    for content in ("{", "[]", '{"trials": [{"curve": [], "metrics": {}}]}', "[" * 100_000, json.dumps(whole)):
        (tmp_path / "a.study" / "study.json").write_text(content)
        assert one(tmp_path, "a.study").state == "damaged"


def test_settings_differ_from_what_nothing_said_would_have_given(runs: Path) -> None:
    changed = changed_settings(one(runs, "one"))
    assert changed["model.embed_dim"] == (16, None)
    assert changed["epochs"] == (2.0, 5)
    assert not {"steps", "training.min_steps", "out", "seed", "preset"} & set(changed)  # epochs imply the first two
    fast = changed_settings(one(runs, "two"))
    assert (fast["preset"], fast["seed"]) == (("fast", "balanced"), (3, 0))
    assert changed_settings(SavedRun("x", runs, "finished")) == {}
    detects = {"schema": {"targets": [{"name": "o", "task": "detection"}]}, "config": {"image": {"size": 416}}}
    run = SavedRun("x", runs, "finished", {**detects, "config": {**detects["config"], "preset": "balanced", "epochs": 5,
                                                                   "steps": 2000}})  # fmt: skip
    assert changed_settings(run) == {}  # 416 is what detection has by default
    odd = SavedRun("x", runs, "finished", {"config": {"tasks": {"a.b": {"c": 1}}, "preset": "balanced", "epochs": 5,
                                                      "steps": 2000}})  # fmt: skip
    assert changed_settings(odd) == {'tasks."a.b".c': (1, UNSET)}


def test_only_what_differs_is_set_side_by_side(runs: Path) -> None:
    pair = find_runs(["one", "two"], runs)
    differing = differing_settings(pair)
    assert (differing["seed"], differing["preset"]) == ([0, 3], ["balanced", "fast"])
    assert not {"out", "backbone", "model.embed_dim"} & set(differing)
    scores = scores_beside(pair)
    assert scores["valid", "label", "accuracy"] == [run.first_metrics("valid")[0][2] for run in pair]
    assert is_like(pair)


def test_curves_stand_side_by_side_at_the_same_steps(tmp_path: Path) -> None:
    def run(*points: tuple[int, float]) -> SavedRun:
        return SavedRun("x", tmp_path, "finished", history=[{"step": s, "score": v} for s, v in points])

    pair = [run((10, 0.5), (20, 0.6), (30, 0.7)), run((15, 0.4), (30, 0.8), (45, 0.9))]
    assert curves_beside(pair) == {
        10: [0.5, None], 15: [0.5, 0.4], 20: [0.6, 0.4], 30: [0.7, 0.8], 45: [None, 0.9],
    }  # fmt: skip
    long = [run(*((i, i / 1000) for i in range(1, 401))), run((1, 0.1), (77, 0.2))]
    found = curves_beside(long)
    assert len(found) <= 22
    assert {1, 77, 400} <= set(found)
    assert found[77] == [0.077, 0.2]


def test_runs_are_read_without_torch_or_matplotlib(runs: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom polydetr.inference.runs import list_runs\n"
        "from polydetr.inference.run_comparison import changed_settings\n"
        "found = list_runs(Path(sys.argv[1]))\n[changed_settings(run) for run in found]\n"
        "print(len(found), sorted({'torch', 'matplotlib', 'scipy', 'optuna'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, runs], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "3 []"
