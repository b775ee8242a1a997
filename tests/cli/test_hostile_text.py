"""Text of the data is shown as text: on the terminal, in files that people print, in whatever encoding there is."""

from __future__ import annotations

import io
import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from film_models import FLAGS
from polydetr.cli.output import fit_streams_to_encoding, print_inspection, print_json, print_metrics, say, show
from polydetr.data.inspect import inspect_data

COMMANDS = "\x1b]52;c;aGk=\x07\x1b[2J\x1b[31m\x9b5m\x7f\u202e"
"""Writes to the clipboard, clears the screen, colors the rest, in the one-byte form too; turns what follows around."""
MARKUP = "<script>alert(1)</script> ![p](http://host.example/p.png) [a](javascript:b) www.host.example | ``"
LONG = "long" * 50_000
Run = Callable[..., tuple[int, str, str]]


def commands_in(text: str) -> list[str]:
    return [c for c in text if c not in "\n\t" and (ord(c) < 32 or 127 <= ord(c) < 160 or c == "\u202e")]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(f"odd{COMMANDS[6:9]}") / "rows.jsonl"
    rows = [
        {f"text{COMMANDS}": f"a {'good' if i % 2 else 'cold'} thing {i} {COMMANDS}",
         f"{MARKUP}{COMMANDS}": float(i),
         LONG: f"{i % 3}x",
         "label": f"yes {COMMANDS} {MARKUP}" if i % 2 else "no"}
        for i in range(24)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_what_every_verb_prints_of_it(run: Run, file: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    calls: dict[str, tuple[Any, ...]] = {
        "inspect": ("inspect", file, "--target", "label:classification"),
        "train": ("train", "--train", file, "--target", "label:classification", "--epochs", "0.2", "--out", model,
                  *FLAGS),
        "evaluate": ("evaluate", model, file),
        "predict": ("predict", model, file),
        "explain": ("explain", model, file, "--out", tmp_path / "why"),
        "inspect as JSON": ("inspect", file, "--json"),
        "a column that is not there": ("inspect", file, "--target", f"none{COMMANDS}{LONG}"),
        "a file that is not there": ("predict", model, f"{file}{COMMANDS}"),
    }  # fmt: skip
    for verb, call in calls.items():
        code, out, err = run(*call)
        assert code == (2 if "not there" in verb else 0), err
        assert not commands_in(out + err), verb
        if "JSON" not in verb:
            assert all(len(line) < 2000 for line in (out + err).splitlines()), verb
    card = (model / "README.md").read_text(encoding="utf-8")
    for path in [model / "README.md", *model.glob("reports/*.txt"), *model.rglob("*.json")]:
        text = path.read_text(encoding="utf-8")
        assert not commands_in(text), path.name
        assert str(file.parent) not in text, path.name
    # Nothing of it is left outside of code.
    plain = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", card.partition("## How to load it")[0])
    plain = re.sub(r"\]\(reports/[\w.%-]+\)", "]", plain)  # links to the run's own pictures and tables
    plain = plain.replace("![", "[")
    assert not re.search(r"<script|\]\(|www\.|://", plain)
    assert "rows.jsonl" in card


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], io.BytesIO]:
    def open_in(encoding: str) -> io.BytesIO:
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding=encoding))
        fit_streams_to_encoding()
        return raw

    return open_in


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8", "gb18030"])
def test_answers_are_json_and_tables_are_drawn_in_any_encoding(
    stream: Callable[[str], io.BytesIO], encoding: str
) -> None:
    value = {"text": "去 café 😀 \ud83d", "label": "“x”\x85"}
    raw = stream(encoding)
    print_json(value)
    sys.stdout.flush()
    assert json.loads(raw.getvalue().decode(encoding)) == value
    print_inspection(inspect_data([{"text": "去 北京", "label": "a"}, {"text": "b", "label": "é"}]))
    say("→ done, 去")
    show("précision 0.5 │")
    sys.stdout.flush()
    sys.stderr.flush()
    text = raw.getvalue().decode(encoding)
    assert ("┃" in text) == (encoding == "utf-8")
    assert ("| text " in text) == (encoding != "utf-8")
    assert ("\\u53bb" in text) == (encoding not in ("utf-8", "gb18030"))


def test_scores_that_are_not_defined_are_null_or_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"map": math.nan, "mar": [math.inf, 0.5]})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {"map": None, "mar": [None, 0.5]}
    print_metrics({"test": {"objects": {"map": math.nan, "map_50": 0.5, "map_75": None, "n": 1200}}})
    assert capsys.readouterr().out == "test objects: map -  map_50 0.5000  map_75 -  n 1,200\n"
