"""Both READMEs: their code runs, their commands exist, their table is true, and they agree with one another."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer
import yaml

import page_files as files
from markdown_blocks import ROOT, blocks_of, run_python
from page_reader import PageReader
from polydetr import Predictor
from polydetr.cli import app
from polydetr.core.plugs import HEADS, TASKS
from polydetr.heads.base import Head
from polydetr.tasks.base import Task

ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
READMES = pytest.mark.parametrize("readme", [ENGLISH, CHINESE], ids=["en", "zh"])
TO_COME: set[str] = set()
"""Named in the READMEs before they are there."""

TINY = {
    "model": {"embed_dim": 16, "num_layers": 1},
    "training": {"precision": "fp32", "patience": 0},
    "text": {"max_tokens": 48, "overlap": 8},
    "image": {"size": 16, "patch_size": 8},
    "detection": {"num_queries": 8, "hidden_dim": 16, "decoder_layers": 1},
}


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYDETR_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


# -- code ---------------------------------------------------------------------------------------------------------


def test_its_python_prints_what_it_shows() -> None:
    (shown,) = [b for b in blocks_of(ENGLISH) if b.language == "python"]
    assert shown.output
    assert len(shown.content.splitlines()) <= 14
    names = run_python(ENGLISH)
    texts = {row["text"] for row in names["rows"]}
    assert not any(city in text for city in ("Cairo", "Bogota") for text in texts)


@READMES
def test_every_command_exists(readme: Path) -> None:
    lines = [line for b in blocks_of(readme) if b.language == "sh" for line in b.content.splitlines()]
    shown = len(lines)
    lines += re.findall(r"`((?:polydetr|make) [^`]+)`", readme.read_text(encoding="utf-8"))
    assert sum(line.startswith("polydetr") for line in lines) >= 8
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for number, line in enumerate(lines):
        program, *words = shlex.split(line.removesuffix(" &"))
        if program in ("git", "pip", "conda", "curl"):
            continue
        if program == "make":
            assert words == [words[0]], line
            assert words[0] in targets, line
        else:
            parse_command(words, in_prose=number >= shown)


@READMES
def test_every_linked_file_exists(readme: Path) -> None:
    linked = set(re.findall(r"\]\((?!https?:)([^)#]+)", readme.read_text(encoding="utf-8")))
    assert len(linked) >= 5
    assert not {name for name in linked - TO_COME if not (ROOT / name).exists()}


def parse_command(words: list[str], *, in_prose: bool = False) -> None:
    """Raises where a verb or an option does not exist, or an argument is missing; prose may name the verb alone."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        assert set(words[:1]) & set(command.commands), f"polydetr has no verb {words[:1]}"
        command, words = command.commands[words[0]], words[1:]
        if in_prose and not words:
            return
    command.make_context("polydetr", list(words))


@pytest.mark.parametrize("words", ["trane", "train --epoks 3", "evaluate model", "backbones lst"])
def test_a_wrong_command_is_seen(words: str) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - click's own kinds, or the assertion above
        parse_command(shlex.split(words))


@READMES
def test_every_room_is_on_the_map(readme: Path) -> None:
    listed = set(re.findall(r"^\| `([^`]+)` \|", readme.read_text(encoding="utf-8"), re.MULTILINE))
    rooms = {f"src/polydetr/{p.name}/" for p in (ROOT / "src" / "polydetr").iterdir() if (p / "__init__.py").exists()}
    assert {"src/polydetr/nn/", "src/polydetr/tasks/"} <= rooms
    assert rooms <= listed
    assert all((ROOT / name).is_dir() for name in listed - TO_COME if name.endswith("/"))


# -- installing, and coming from elsewhere ---------------------------------------------------------------------------


def test_the_environment_of_conda_has_what_conda_reads() -> None:
    """The keys of conda's documentation, and no older version of anything than pip would take."""
    made = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert made.keys() == {"name", "channels", "dependencies"}
    assert made["channels"] == ["conda-forge"]
    *specs, installed = made["dependencies"]
    assert installed == {"pip": ["--editable .[train]"]}
    assert "pip" in specs  # conda warns where it is left out
    asked = dict(re.match(r"([\w-]+)(.*)", spec).groups() for spec in specs)  # type: ignore[union-attr]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    more = project["optional-dependencies"]
    needed = [*project["dependencies"], *more["train"], *more["parquet"]]
    ours = dict(re.match(r"([\w-]+)(.*)", spec).groups() for spec in needed)  # type: ignore[union-attr]
    of_pip = {"pytorch-cpu": "torch", "matplotlib-base": "matplotlib"}
    versions = {of_pip.get(name, name): version for name, version in asked.items() if name not in ("python", "pip")}
    assert versions == {name: ours[name] for name in versions}
    assert f">={asked['python'].lstrip('=')}" >= project["requires-python"]


class SmallerFit:
    """``Predictor`` as the table's cells call it, with settings that take a second."""

    load = Predictor.load

    @staticmethod
    def fit(*arguments: Any, **options: Any) -> Predictor:
        return Predictor.fit(*arguments, **options, backbone="none", epochs=1, settings=TINY)


def ways_here(readme: Path) -> list[str]:
    """The last column of the table of other libraries."""
    libraries = "Hugging Face|spaCy|AutoGluon|Ultralytics|MLflow"
    rows = re.findall(rf"^\| (?:{libraries}) \| `.+` \| `(.+)` \|$", readme.read_text("utf-8"), re.M)
    assert len(rows) == 12
    return rows


@pytest.mark.slow
def test_what_the_table_of_other_libraries_says_of_ours_works(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    files.table(files.reviews())(Path("reviews.csv"))
    for name in ("train.conll", "dev.conll", "test.conll"):
        files.conll(Path(name))
    files.table(files.mixed())(Path("houses.csv"))
    files.yolo(Path("data.yaml"))
    files.images()(Path("photos"))
    typed = PageReader(run, monkeypatch)
    for way in sorted(ways_here(ENGLISH), key=lambda way: "train" not in way and ".fit(" not in way):
        if way.startswith("polydetr "):
            typed.command(way)
        else:
            assert eval(way, {"Predictor": SmallerFit})
    assert ways_here(CHINESE) == ways_here(ENGLISH)


@READMES
def test_the_table_of_other_libraries_has_no_wrong_command(readme: Path) -> None:
    for way in ways_here(readme):
        if way.startswith("polydetr "):
            parse_command(shlex.split(way)[1:])
        else:
            ast.parse(way)


# -- the table of what is tested ----------------------------------------------------------------------------------

LABELS = ("red", "blue")
Row = dict[str, Any]


def _text(i: int, *, more: str = "") -> str:
    return f"a {LABELS[i % 2]} thing {i}{more}"


def _photo(i: int) -> np.ndarray:
    pixels = np.full((16, 16, 3), 20 + i, dtype=np.uint8)
    pixels[4:12, 4:12, 0 if i % 2 else 2] = 220
    return pixels


INPUTS: dict[str, Callable[[int], Row]] = {
    "one text": lambda i: {"text": _text(i)},
    "two texts": lambda i: {"first": f"note {i}", "text": _text(i)},
    "text longer than a window": lambda i: {"text": _text(i, more=" and more words" * 40)},
    "image": lambda i: {"photo": _photo(i)},
    "table columns": lambda i: {"size": float(i), "colour": LABELS[i % 2]},
    "all of these in one row": lambda i: {
        "text": _text(i),
        "photo": _photo(i),
        "size": float(i),
        "colour": LABELS[i % 2],
    },
    "history": lambda i: {"seen": [{"title": _text(j)} for j in range(i % 3 + 1)]},
}
MODALITY = {"text": "text", "first": "text", "question": "text", "context": "text", "photo": "image", "size": "number",
            "colour": "category", "seen": "history"}  # fmt: skip


def _span(i: int) -> Row:
    return {"start": 2, "end": 2 + len(LABELS[i % 2]), "label": "COLOUR"}


def _nested(i: int) -> list[Row]:
    return [_span(i), {"start": 0, "end": len(_text(i).rsplit(" ", 1)[0]), "label": "THING"}]


TARGETS: dict[str, tuple[dict[str, str], Callable[[int], Row], type]] = {
    "classification, one label": ({"y": "classification"}, lambda i: {"y": LABELS[i % 2]}, str),
    "classification, several labels": (
        {"y": "classification"}, lambda i: {"y": [LABELS[i % 2], "thing"] if i % 3 else [LABELS[i % 2]]}, list,
    ),
    "regression": ({"y": "regression"}, lambda i: {"y": i / 2 + (i % 2)}, float),
    "tagging": ({"y": "tagging"}, lambda i: {"y": [_span(i)]}, list),
    "entities as a set, nested ones too": ({"y": "entities"}, lambda i: {"y": _nested(i)}, list),
    "question answering": ({"y": "qa"}, lambda i: {"y": [{"text": LABELS[i % 2], "start": 2}]}, dict),
    "objects in an image (detection)": (
        {"y": "detection"}, lambda i: {"y": [{"box": [4, 4, 12, 12], "label": LABELS[i % 2]}]}, list,
    ),
    "search (embedding)": ({"y": "embedding"}, lambda i: {"y": f"thing number {i}"}, list),
    "painting an image (generation)": ({"y": "generation"}, lambda i: {"y": _photo(i)}, np.ndarray),
    "several targets at once": (
        {"y": "classification", "z": "regression"}, lambda i: {"y": LABELS[i % 2], "z": float(i)}, str,
    ),
}  # fmt: skip
"""Kind → (tasks, the targets of row i, what an answer is)."""


def _rows(kind: str, column: str) -> list[Row]:
    rows = []
    for i in range(12):
        row = INPUTS[column](i)
        if kind == "question answering":  # the passage is one text, the question another
            row = {("context" if name == "text" else name): value for name, value in row.items() if name != "first"}
            row = {"question": "which colour?", **row}
        rows.append(row | TARGETS[kind][1](i))
    return rows


def table_of_tasks(readme: Path) -> list[list[str]]:
    text = readme.read_text(encoding="utf-8")
    start = re.search(r"^\| (?:task|任务) \|", text, re.MULTILINE)
    assert start
    lines = text[start.start() :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("|---")]


def claimed() -> list[tuple[str, str]]:
    head, *body = table_of_tasks(ENGLISH)
    return [(row[0], column) for row in body for column, cell in zip(head[1:], row[1:], strict=True) if cell == "yes"]


def test_the_table_claims_what_is_trained_here() -> None:
    assert {task for task, _ in claimed()} == set(TARGETS)
    assert {column for _, column in claimed()} == set(INPUTS)
    assert len(claimed()) == 55


@pytest.mark.usefixtures("quick_start")
@pytest.mark.filterwarnings("ignore::polydetr.MeasureWarning")  # one step teaches nothing
@pytest.mark.parametrize(("kind", "column"), claimed())
def test_what_the_table_claims(kind: str, column: str) -> None:
    rows = _rows(kind, column)
    targets, _, answer = TARGETS[kind]
    inputs = {name: MODALITY[name] for name in rows[0] if name not in targets}
    predictor = Predictor.fit(rows, targets, inputs=inputs, backbone="none", epochs=1, settings=TINY)
    if column == "text longer than a window":
        assert len(_windows(predictor, rows[0])) > 1
    answers = predictor.predict(rows[:2])
    assert [set(a) for a in answers] == [set(targets)] * 2
    assert all(isinstance(a["y"], answer) for a in answers), answers
    assert all(metrics for metrics in predictor.evaluate(rows).values())


def _windows(predictor: Predictor, row: Mapping[str, Any]) -> Any:
    from polydetr.data.readers import read_records

    return predictor._engine.encoder.encode(list(read_records([row])), with_targets=False).examples


# -- five steps ---------------------------------------------------------------------------------------------------


@READMES
def test_the_five_steps_name_every_method_that_a_task_must_have(readme: Path) -> None:
    steps = re.findall(r"^([1-9])\. (.+)$", readme.read_text(encoding="utf-8"), re.MULTILINE)
    assert [number for number, _ in steps] == list("12345")
    named = set(re.findall(r"`(\w+)`", " ".join(text for _, text in steps)))
    assert Task.__abstractmethods__ | Head.__abstractmethods__ <= named
    assert {"kind", "per_token", "primary_metric"} <= named & set(Task.__annotations__)


def test_a_task_made_in_five_steps_trains(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The guide's task, steps 1 to 4, as printed; step 5 registers it."""
    names = run_python(ROOT / "docs" / "guide" / "extending.md")
    task = names["CountTask"]
    for registry, name in ((TASKS, "CountTask"), (HEADS, "CountHead")):  # as an installed package would
        point = SimpleNamespace(load=lambda name=name: names[name])
        monkeypatch.setitem(registry._outside, task.kind, point)
    rows = [{"text": " ".join(["drop"] * n) + f" {'abc'[i]}", "n": n} for n in range(1, 9) for i in range(3)]
    settings = {"training": {"batch_tokens": 64, "lr": 3e-3, "head_lr": 3e-3, "patience": 0, "precision": "fp32"}}
    out = tmp_path / "model"
    predictor = Predictor.fit(rows, {"n": "count"}, valid=rows, backbone="none", epochs=15, out=out, settings=settings)
    errors = [abs(a["n"] - r["n"]) for a, r in zip(predictor.predict(rows), rows, strict=True)]
    assert sum(errors) / len(errors) < 1.5  # saying the mean everywhere would give 2
    assert Predictor.load(out).predict(rows) == predictor.predict(rows)
    with pytest.raises(ValueError, match="not a count"):
        Predictor.fit(
            [{"text": "a b", "n": -2}, {"text": "c d", "n": 1}], {"n": "count"}, backbone="none", settings=settings
        )


# -- two languages ------------------------------------------------------------------------------------------------


def _outline(readme: Path) -> dict[str, Any]:
    text = readme.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    tables = [len(t.strip().splitlines()) for t in re.findall(r"(?:^\|.*\n)+", prose, re.MULTILINE)]
    return {
        "headings": [len(h) for h in re.findall(r"^(#+) ", prose, re.MULTILINE)],
        "tables": tables,
        "widths": [line.count("|") for line in prose.splitlines() if line.startswith("|")],
        "bullets": len(re.findall(r"^- ", prose, re.MULTILINE)),
        "placeholders": re.findall(r"\{\{\w+\}\}", text),
        "links": sorted(set(re.findall(r"\]\(([^)]+)\)", text)) - {"README.md", "README.zh-CN.md"}),
    }


def test_the_two_readmes_have_one_structure() -> None:
    english, chinese = _outline(ENGLISH), _outline(CHINESE)
    assert len(english["headings"]) >= 9
    assert len(english["tables"]) == 5
    assert english == chinese


def test_the_two_readmes_have_the_same_code() -> None:
    assert blocks_without_lines(ENGLISH) == blocks_without_lines(CHINESE)


def blocks_without_lines(readme: Path) -> list[tuple[str, str, str | None]]:
    return [(b.language, b.content, b.output) for b in blocks_of(readme)]


def test_the_two_tables_of_tasks_say_the_same() -> None:
    words = {"是": "yes", "–": "–"}
    english, chinese = table_of_tasks(ENGLISH), table_of_tasks(CHINESE)
    assert [row[1:] for row in english[1:]] == [[words[cell] for cell in row[1:]] for row in chinese[1:]]
