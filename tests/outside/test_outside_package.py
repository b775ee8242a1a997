"""A package that is not polydetr's adds a task and a modality by entry points, and all the house serves both.

The package lies beside this file; it is installed as pip would (its sources, and a ``.dist-info`` folder that names its
entry points), and fresh interpreters, which find it on their path, are asked: one trains, one loads what was saved, one
is the command line.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import polydetr

SOURCES = Path(__file__).parent / "polydetr_calendar"
ENTRY_POINTS = {
    "polydetr.tasks": {"interval": "explained:ExplainedTask"},
    "polydetr.heads": {"interval": "head:IntervalHead"},
    "polydetr.modalities": {"weekdays": "explained:ExplainedModality"},
    "polydetr.embedders": {"weekdays": "embedder:WeekdaysEmbedder"},
}
ROWS = [
    {"shop": shop, "open": days, "hours": [begin, begin + 5 + len(days.split())]}
    for shop, begin in (("bakery", 6), ("bar", 16))
    for days in ("Mon", "Mon Tue", "Wed Thu Fri", "Sat Sun", "Mon Tue Wed Thu Fri", "Sun")
]
SETTINGS = {
    "model": {"embed_dim": 32, "num_layers": 1, "num_heads": 2, "dropout": 0.0},
    "training": {"batch_tokens": 64, "lr": 3e-3, "head_lr": 3e-3, "patience": 0, "precision": "fp32"},
    "tasks": {"hours": {"digits": 1}},
}


def install(folder: Path, entry_points: Mapping[str, Mapping[str, str]] = ENTRY_POINTS) -> Path:
    """Puts the package where ``importlib.metadata`` finds it."""
    shutil.copytree(SOURCES, folder / SOURCES.name, ignore=shutil.ignore_patterns("__pycache__"))
    info = folder / f"{SOURCES.name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {SOURCES.name}\nVersion: 1.0\n", encoding="utf-8")
    lines = []
    for group, points in entry_points.items():
        lines += [f"[{group}]", *(f"{name} = {SOURCES.name}.{place}" for name, place in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def environment(package: Path | None, cache: Path) -> dict[str, str]:
    """A fresh interpreter's: it finds polydetr as this one does, and the package where it is given."""
    path = [str(package)] if package else []
    path.append(str(Path(polydetr.__file__).parents[1]))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "POLYDETR_CACHE": str(cache), "OMP_NUM_THREADS": "1"}


def run_fresh(code: str, given: Any, *, package: Path | None, cache: Path) -> Any:
    """``code`` reads ``given`` and sets ``answer``; both are JSON."""
    whole = f"import json, sys\ngiven = json.load(sys.stdin)\n{code}\nprint('ANSWER', json.dumps(answer))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", whole],
        input=json.dumps(given), capture_output=True, text=True, check=False, env=environment(package, cache),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("ANSWER"))[7:])


TRAIN = """
from polydetr import Predictor
predictor = Predictor.fit(
    given["rows"], "hours:interval", inputs={"open": "weekdays", "shop": "category"}, valid=given["rows"],
    backbone="none", epochs=40, out=given["out"], settings=given["settings"],
)
answer = {
    "answers": predictor.predict(given["rows"]),
    "metrics": predictor.evaluate(given["rows"])["hours"],
    "schema": predictor.schema.to_dict(),
    "missing": predictor.predict([{**given["rows"][0], "open": None}]),
}
"""
LOAD = """
from polydetr.inference.model import LoadedModel
model = LoadedModel.load(given["out"])
found = model.explain(given["rows"][0])
answer = {
    "answers": model.predict(given["rows"]), "metrics": model.evaluate(given["rows"])["hours"],
    "task": found.task, "quantity": found.quantity, "complete": found.is_complete,
    "columns": [cell.column for cell in found.columns], "modalities": sorted(found.modalities), "html": found.to_html(),
}
"""
EXPORT = """
from polydetr import Predictor
from polydetr.inference.model import LoadedModel
done = Predictor.load(given["out"]).export(given["exported"])
model = LoadedModel.load(given["exported"])
answer = {
    "runner": type(model._engine.runner).__name__, "answers": model.predict(given["rows"]),
    "metrics": model.evaluate(given["rows"])["hours"], "difference": done.largest_difference, "rows": done.rows,
}
"""
REFUSED = """
from polydetr import PolydetrError, Predictor
refused = []
for target, inputs in given["wrong"]:
    rows = given["rows"] + given.get("unreadable", [])
    try:
        Predictor.fit(rows, target, inputs=inputs, backbone="none", epochs=1, settings=given["settings"])
    except PolydetrError as error:
        refused.append([type(error).__name__, str(error)])
"""
VERBS = """
import contextlib, io
from polydetr.cli import main
answer = []
for words in given:
    sys.argv = ["polydetr", *words]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main()
    answer.append(said.getvalue())
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def trained(package: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The package's model, its folder, and what it said in the process that trained it."""
    folder = tmp_path_factory.mktemp("trained")
    given = {
        "rows": ROWS, "out": str(folder / "model"), "settings": SETTINGS,
        "unreadable": [{"shop": "bar", "open": "Mon Noday", "hours": [1, 2]}],
        "wrong": [
            ["hours:interval", {"open": "weekdays"}],
            ["hours:intervall", {"open": "weekdays"}],
            ["hours:interval", {"open": "weekday"}],
        ],
    }  # fmt: skip
    code = f"{TRAIN}{REFUSED}answer['refused'] = refused"
    return {**given, "said": run_fresh(code, given, package=package, cache=folder / "cache")}


@pytest.fixture(scope="module")
def loaded(trained: dict[str, Any], package: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process says that has loaded the saved model."""
    return run_fresh(LOAD, trained, package=package, cache=tmp_path_factory.mktemp("cache"))


def test_it_trains_answers_and_is_measured(trained: dict[str, Any]) -> None:
    said = trained["said"]
    assert [list(answer) for answer in said["answers"]] == [["hours"]] * len(ROWS)
    assert all(low <= high for low, high in (answer["hours"] for answer in said["answers"]))
    assert all(round(end, 1) == end for answer in said["answers"] for end in answer["hours"])  # its own option
    assert set(said["metrics"]) == {"iou"}
    assert said["metrics"]["iou"] > 0.6  # the mean of all rows everywhere would give less than 0.3
    assert said["schema"]["inputs"] == [
        {"name": "open", "modality": "weekdays"},
        {"name": "shop", "modality": "category"},
    ]
    assert said["schema"]["targets"] == [{"name": "hours", "task": "interval"}]
    assert said["missing"] != said["answers"][:1]


def test_a_saved_model_answers_the_same(trained: dict[str, Any], loaded: dict[str, Any]) -> None:
    assert loaded["answers"] == trained["said"]["answers"]
    assert loaded["metrics"] == trained["said"]["metrics"]
    manifest = json.loads(Path(trained["out"], "polydetr.json").read_text(encoding="utf-8"))
    assert manifest["tasks"]["hours"]["kind"] == "interval"
    assert set(manifest["modalities"]) == {"table", "weekdays"}
    assert "hours" in Path(trained["out"], "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_it_is_exported(trained: dict[str, Any], package: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    given = {**trained, "exported": str(tmp_path / "exported")}
    found = run_fresh(EXPORT, given, package=package, cache=tmp_path / "cache")
    assert found["runner"] == "OnnxRunner"
    assert found["answers"] == trained["said"]["answers"]
    assert found["metrics"] == pytest.approx(trained["said"]["metrics"], abs=1e-4)
    assert found["rows"] > 10
    assert found["difference"] < 1e-4


def test_it_is_explained(loaded: dict[str, Any]) -> None:
    assert (loaded["task"], loaded["quantity"]) == ("interval", "middle")
    assert loaded["complete"]
    assert set(loaded["columns"]) == {"shop", "open"}
    assert loaded["modalities"] == ["table", "weekdays"]
    assert "open" in loaded["html"]


def test_what_it_cannot_read_is_reported_like_anywhere(trained: dict[str, Any]) -> None:
    day, task, kind = trained["said"]["refused"]
    assert day[0] == "RowError"
    assert "'Noday' is no day of the week" in day[1]
    assert task[0] == kind[0] == "SchemaError"
    assert "unknown task 'intervall'" in task[1]
    assert "'interval'" in task[1].partition("unknown")[2]
    assert "unknown modality 'weekday'" in kind[1]
    assert "'weekdays'" in kind[1].partition("unknown")[2]


def test_the_command_line_takes_both(package: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    train = [
        "train", str(data), "--target", "hours:interval", "--input", "open:weekdays", "--backbone", "none",
        "--epochs", "1", "--set", "tasks.hours.digits=3", "--set", "model.embed_dim=32", "--out", str(tmp_path / "m"),
    ]  # fmt: skip
    verbs = [
        ["inspect", str(data), "--target", "hours:interval"],
        train,
        ["evaluate", str(tmp_path / "m"), str(data)],
        ["predict", str(tmp_path / "m"), str(data)],
    ]
    inspected, _, evaluated, predicted = run_fresh(VERBS, verbs, package=package, cache=tmp_path / "cache")
    assert "hours" in inspected
    assert "iou" in evaluated
    assert len([line for line in predicted.splitlines() if "hours" in line]) == len(ROWS)


def test_without_the_package_the_folder_names_what_is_missing(trained: dict[str, Any], tmp_path: Path) -> None:
    code = """
from polydetr import PolydetrError
from polydetr.inference.model import LoadedModel
try:
    LoadedModel.load(given["out"])
except PolydetrError as error:
    answer = [type(error).__name__, str(error)]
"""
    name, message = run_fresh(code, trained, package=None, cache=tmp_path)
    assert name == "ModelFolderError"
    assert "'interval'" in message
    assert "package" in message


def test_half_a_task_is_reported(tmp_path: Path) -> None:
    """A package that forgot the head, and one that forgot the embedder."""
    for group, what in (("polydetr.heads", "interval"), ("polydetr.embedders", "weekdays")):
        rest = {name: points for name, points in ENTRY_POINTS.items() if name != group}
        package = install(tmp_path / what, rest)
        given = {"rows": ROWS, "settings": SETTINGS, "wrong": [["hours:interval", {"open": "weekdays"}]]}
        ((name, message),) = run_fresh(f"{REFUSED}answer = refused", given, package=package, cache=tmp_path / "cache")
        assert name == "ConfigError", message
        assert f"'{what}'" in message
        assert group in message
