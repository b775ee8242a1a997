"""``pip install polydetr-core`` in an empty environment: what it holds, what it costs, and that it answers as PyTorch
does; and that its parts and ``polydetr`` do not get in one another's way.

    pytest tests/installed -m "slow or not slow"
"""

from __future__ import annotations

import json
import re
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import asked_apart
import pytest

import polydetr
from clean_environment import Environment
from polydetr import Predictor
from task_pairs import PAIRS, assert_alike, save_pair

pytestmark = [pytest.mark.slow, pytest.mark.network]
NOT_THERE = {"torch", "transformers", "rich", "pyarrow", "scipy", "scikit-learn", "matplotlib", "pip"}
LARGEST = 250e6
EXPLAINED = {"classification", "regression", "tagging", "entities", "qa", "detection"}
Built = Mapping[str, Mapping[str, Path]]
CoreWith = Callable[[str], Environment]


# -- the two distributions --------------------------------------------------------------------------------------------


def test_one_distribution_has_all_files_and_the_other_none(built: Built) -> None:
    names = {project: zipfile.ZipFile(files["wheel"]).namelist() for project, files in built.items()}
    assert {"polydetr/__init__.py", "polydetr/training/loop.py", "polydetr/configs/ner.yaml"} <= set(
        names["polydetr-core"]
    )
    assert all(name.startswith(f"polydetr-{polydetr.__version__}.dist-info/") for name in names["polydetr"])
    with tarfile.open(built["polydetr"]["sdist"]) as archive:
        assert {Path(name).name for name in archive.getnames()} >= {"pyproject.toml", "describe.py", "PKG-INFO"}


def test_the_other_requires_the_one_of_its_own_version(built: Built) -> None:
    about = zipfile.ZipFile(built["polydetr"]["wheel"]).read(f"polydetr-{polydetr.__version__}.dist-info/METADATA")
    requires = re.findall(r"^Requires-Dist: (.+)$", about.decode(), re.MULTILINE)
    assert requires[0] == f"polydetr-core[train]=={polydetr.__version__}"
    assert all(line.startswith("polydetr-core[") and f"=={polydetr.__version__}" in line for line in requires)
    assert {"hub", "serve", "track", "xlsx", "export"} <= {re.split(r"[\[\]]", line)[1] for line in requires[1:]}
    core = zipfile.ZipFile(built["polydetr-core"]["wheel"])
    about = core.read(f"polydetr_core-{polydetr.__version__}.dist-info/METADATA")
    assert b"torch" in b"".join(re.findall(rb"Requires-Dist: torch.*extra == .train.", about))
    assert not re.search(rb"^Requires-Dist: (torch|rich|scipy|pyarrow)[^;]*$", about, re.MULTILINE)


def test_uninstalling_one_leaves_the_other_whole(built: Built, tmp_path: Path) -> None:
    made = Environment.make(tmp_path / "both")
    made.pip("install", "--no-deps", *(str(files["wheel"]) for files in built.values()))
    made.pip("uninstall", "--yes", "polydetr")
    shown = made.run("-c", "import polydetr; print(polydetr.__version__)").stdout.strip()
    assert shown == polydetr.__version__
    assert made.script.exists()
    made.pip("install", "--no-deps", str(built["polydetr"]["wheel"]))
    made.pip("uninstall", "--yes", "polydetr-core")
    assert "No module named 'polydetr'" in made.run("-c", "import polydetr", check=False).stderr
    assert not made.script.exists()


# -- the runtime alone ------------------------------------------------------------------------------------------------


def test_it_is_small_and_holds_nothing_heavy(core_with: CoreWith) -> None:
    made = core_with("")
    listed = "from importlib.metadata import distributions; print(*(d.name.lower() for d in distributions()))"
    names = set(made.run("-c", listed).stdout.split())
    assert {"polydetr-core", "onnxruntime", "tokenizers"} <= names
    assert not names & NOT_THERE
    print(f"{made.bytes / 1e6:.1f} MB installed")
    assert made.bytes <= LARGEST


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Task, modality → a folder with the trained ``model``, the exported ``graphs``, ``rows.json`` and what PyTorch
    answers to these, ``answers.json``.
    """
    top = tmp_path_factory.mktemp("pairs")

    def folder(task: str, modality: str) -> Path:
        place = top / f"{task}-{modality}"
        if not place.exists():
            place.mkdir()
            rows = save_pair(task, modality, place / "model")
            trained = Predictor.load(place / "model", precision="fp32")
            trained.export(place / "graphs")
            asked = [{name: value for name, value in row.items() if name != "y"} for row in rows]
            shown = json.dumps(asked, default=asked_apart.plain)
            (place / "rows.json").write_text(shown, encoding="utf-8")
            given = asked_apart.rows_from(shown)
            known = {"answers": asked_apart.answers(trained, given)}
            if task in EXPLAINED:
                known["explanation"] = asked_apart.explained(trained, given[0], place)
            (place / "answers.json").write_text(json.dumps(known, default=asked_apart.plain), encoding="utf-8")
        return place

    return folder


@pytest.mark.parametrize(("task", "modality"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_every_exported_pair_answers_as_pytorch_does(
    task: str, modality: str, exported: Callable[[str, str], Path], core_with: CoreWith, tmp_path: Path
) -> None:
    place = exported(task, modality)
    out, how = tmp_path / "found.json", "explain" if task in EXPLAINED else "answer"
    core_with("").run(asked_apart.__file__, place / "graphs", place / "rows.json", out, how)
    found = asked_apart.rows_from(out.read_text(encoding="utf-8"))
    assert not set(found["imported"]) & {"torch", "scipy", "sklearn", "pyarrow", "matplotlib", "rich", "transformers"}
    known = asked_apart.rows_from((place / "answers.json").read_text(encoding="utf-8"))
    assert_alike(found["answers"], known["answers"])
    if how == "explain" and "error" in known["explanation"]:  # a model of one step finds no entity
        assert found["explanation"] == known["explanation"]
    elif how == "explain":
        explanation = found["explanation"]
        assert explanation["original"] == pytest.approx(known["explanation"]["original"], abs=1e-4)
        assert (explanation["method"], explanation["files"]) == ("occlusion", ["explanation.html"])
        assert explanation["characters"] > 2_000


# -- what it says of what it cannot -----------------------------------------------------------------------------------


def test_what_needs_pytorch_says_so_in_one_line(
    exported: Callable[[str, str], Path], core_with: CoreWith, tmp_path: Path
) -> None:
    made, place = core_with("[cli]"), exported("classification", "text")
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\ngood,yes\nbad,no\n", encoding="utf-8")
    calls = {
        "train": ["--train", rows, "--target", "label", "--out", tmp_path / "model"],
        "tune": [rows, "--target", "label", "--out", tmp_path / "tuned"],
        "export": [place / "model"],
        "predict": [place / "model", rows],
        "import": [tmp_path, "--out", tmp_path / "imported"],
    }
    for verb, words in calls.items():
        done = made.call(made.script, verb, *words, check=False, cwd=tmp_path)
        *_, last = done.stderr.strip().splitlines()
        assert (done.returncode, done.stdout) == (2, ""), (verb, done.stderr)
        assert "needs PyTorch, which is not installed" in last, (verb, done.stderr)
        assert "pip install polydetr" in last, (verb, last)
        assert "Traceback" not in done.stderr
    shown = made.call(made.script, "predict", place / "model", rows, check=False).stderr
    assert "polydetr export MODEL" in shown
    code = "from polydetr import Predictor; Predictor.fit([{'a': 1}], 'a')"
    shown = made.run("-c", code, check=False).stderr.strip().splitlines()[-1]
    assert re.fullmatch(
        r"polydetr\.errors\.ConfigError: training needs PyTorch, .*pip install polydetr brings it\.", shown
    )


def test_the_command_line_answers_and_explains(
    exported: Callable[[str, str], Path], core_with: CoreWith, tmp_path: Path
) -> None:
    made, place = core_with("[cli]"), exported("tagging", "text")
    rows = tmp_path / "rows.txt"
    rows.write_text("amber birch cobalt\ndune ember\n", encoding="utf-8")
    done = made.call(made.script, "predict", place / "graphs", rows)
    assert [json.loads(line)["row"] for line in done.stdout.splitlines()] == [1, 2]
    done = made.call(made.script, "explain", place / "graphs", rows, "--out", tmp_path / "why")
    assert "No gradients" in done.stdout
    assert [path.name for path in (tmp_path / "why").iterdir()] == ["explanation.html"]
    for out, hint in (("a.parquet", r"polydetr-core\[parquet\]"), ("a.xlsx", r"polydetr-core\[xlsx\]")):
        done = made.call(made.script, "predict", place / "graphs", rows, "--out", tmp_path / out, check=False)
        assert re.search(rf"not installed\. pip install '{hint}', or write \.csv", done.stderr)
    made.call(made.script, "predict", place / "graphs", rows, "--out", tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text(encoding="utf-8").startswith("text,predicted_y")


def test_without_the_extra_the_command_line_names_it(core_with: CoreWith) -> None:
    done = core_with("").call(core_with("").script, "predict", "model", "rows.csv", check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "polydetr: the command line needs Typer, which is not installed. pip install 'polydetr-core[cli]' brings it."
    ]
