"""``polydetr runs``: list, show and compare, as text and as JSON; what is broken is told and stops nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from film_models import SETTINGS, Quiet, plain_rows, write_csv
from polydetr import Predictor
from polydetr.inference.folder import SEAL, seal_of
from polydetr.reports.tuning_page import write_study
from study_records import study

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, and a test file for the second."""
    folder = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("POLYDETR_CACHE", str(folder / "cache"))
        rows, test = write_csv(Path("影评.csv"), plain_rows(60)), write_csv(Path("test.csv"), plain_rows(20, start=60))
        common: dict[str, Any] = {"target": "label", "backbone": "none", "display": Quiet()}
        Predictor.fit(rows, epochs=1, settings=SETTINGS, out="runs/影评-one", **common)
        cosine = {**SETTINGS, "training": {**SETTINGS["training"], "schedule": "cosine"}}
        Predictor.fit(rows, test=test, epochs=2, settings=cosine, out="runs/影评-two", **common)
    return folder / "runs"


@pytest.fixture
def trained(kept: Path, here: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(kept, here / "runs"))


def test_runs_are_listed_shown_and_compared(trained: Path, run: Run) -> None:
    code, out, _ = run("runs", "list")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["run", "date", "target", "valid", "test", "steps", "minutes", "state"]
    assert len(lines) == 3
    assert all("accuracy 0." in line or "accuracy 1." in line for line in lines[1:])
    assert next(line for line in lines if "影评-two" in line).count("accuracy") == 2  # valid and test

    code, out, _ = run("runs", "show", "影评-two")
    assert code == 0
    assert "reads text (text); predicts label (classification)" in out
    for setting in ("epochs", "backbone", "training.schedule", "model.embed_dim"):
        assert setting in out[out.index("settings that differ from the defaults") :]
    assert "training.min_steps" not in out
    assert "test label accuracy: " in out
    assert "train 54, valid 6, test 20" in out
    assert "kept" in out[out.index("curve") :]

    names = [path.name for path in sorted(trained.iterdir())]
    code, out, err = run("runs", "compare", *names, "--out", "curves.png")
    assert code == 0
    assert "wrote curves.png" in err
    with Image.open("curves.png") as image:
        assert image.width > 1000
    differing = out[out.index("settings that differ") : out.index("step: label accuracy")].splitlines()[1:]
    assert [line.split()[0] for line in differing if line] == ["test", "epochs", "training.schedule"]
    assert "valid label accuracy" in out


def test_json_is_alone_on_standard_output(trained: Path, run: Run) -> None:
    listed = json.loads(run("runs", "list", "--json")[1])
    assert {one["state"] for one in listed} == {"finished"}
    (shown,) = json.loads(run("runs", "show", "影评-two", "--json")[1])
    assert shown["settings"]["training.schedule"] == {"value": "cosine", "default": "linear"}
    assert shown["metrics"]["test"]["label"]["accuracy"] >= 0
    assert shown["rows"]["train"] == 54
    compared = json.loads(run("runs", "compare", "--json")[1])
    assert compared["settings"]["epochs"].keys() == {one["folder"] for one in listed}
    assert {len(curve) for curve in compared["curves"].values()} == {1, 2}
    assert {one["metric"] for one in compared["scores"] if one["split"] == "test"} >= {"accuracy", "macro_f1"}


def test_what_is_broken_is_told_and_stops_nothing(trained: Path, run: Run) -> None:
    (trained / "empty").mkdir()
    (trained / "broken").mkdir()
    (trained / "broken" / "polydetr.json").write_text("{\x1b[31m")
    code, out, _ = run("runs", "list")
    assert code == 0
    assert "the folder is empty" in out
    assert "cannot be read" in out
    assert out.count("finished") == 2
    assert run("runs", "show", "broken")[0] == 0
    code, _, err = run("runs", "compare", "影评-two", "empty")
    assert code == 2
    assert "'empty' has no scores: the folder is empty" in err
    code, out, _ = run("runs", "compare")  # by default those that can be
    assert code == 0


@pytest.mark.parametrize(
    "info",
    [
        {"metrics": [1], "schema": {"inputs": [3, {}], "targets": {}}, "machine": [], "rows": {"train": "x"}},
        {"history": [{"step": 1, "epoch": "x", "metrics": 3}, {"step": True}], "config": {"preset": [1], "a": {}}},
        {"training": {"best_step": "x", "steps": -1, "total_seconds": -3}, "versions": [], "created": "\x1b[31m"},
    ],
)
def test_a_description_of_any_form_is_printed(here: Path, run: Run, info: dict[str, Any]) -> None:
    whole = {"format_version": 1, **info}
    (here / "runs" / "odd").mkdir(parents=True)
    (here / "runs" / "odd" / "polydetr.json").write_text(json.dumps({**whole, SEAL: seal_of(whole)}))
    for verb in ("list", "show"):
        code, out, _ = run("runs", verb)
        assert code == 0
        assert "odd" in out
        assert "\x1b" not in out
        assert json.loads(run("runs", verb, "--json")[1])[0]["state"] == "finished"


def test_a_study_is_listed_and_shown(here: Path, run: Run) -> None:
    write_study(study(), here / "runs" / "reviews.study")
    code, out, _ = run("runs", "list")
    assert code == 0
    assert "标签 accuracy 0.8400" in out
    code, out, _ = run("runs", "show", "reviews")
    assert "Trial 1 gains +0.0312 标签 accuracy, and is kept." in out
    assert "lr: 0.0002" in out
    assert "reviews.study/report.html" in out
    code, _, err = run("runs", "compare", "reviews", "reviews")
    assert code == 2
    assert "is a study, not one run" in err
    assert "--runs runs/reviews.study/trials" in err
    (listed,) = json.loads(run("runs", "list", "--json")[1])
    assert (listed["trials"], listed["kept"]) == (5, 1)


def test_where_there_are_no_runs(here: Path, run: Run) -> None:
    code, out, err = run("runs", "list")
    assert (code, out) == (0, "")
    assert "there are no runs in 'runs' yet" in err
    assert json.loads(run("runs", "list", "--json")[1]) == []
    code, _, err = run("runs", "show")
    assert code == 2
    code, _, err = run("runs", "list", "--runs", "elsewhere")
    assert code == 2
    assert "'elsewhere' cannot be read" in err
    assert "--runs FOLDER" in err


def test_wrong_calls_name_what_is_wrong(trained: Path, run: Run) -> None:
    code, _, err = run("runs", "show", "影评-tow")
    assert code == 2
    assert "Did you mean '影评-two'?" in err
    code, _, err = run("runs", "compare", "影评-two")
    assert code == 2
    assert "needs two runs with scores, found 1" in err
    code, _, err = run("runs", "compare", "--out", "curves.svg")
    assert code == 2
    assert "ends in .png" in err


def test_runs_elsewhere_are_read_by_path(trained: Path, run: Run) -> None:
    trained.rename("elsewhere")
    assert "影评-two" in run("runs", "list", "--runs", "elsewhere")[1]
    code, out, _ = run("runs", "show", "elsewhere/影评-two")
    assert code == 0
    assert out.startswith("影评-two: finished")
