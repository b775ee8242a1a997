"""What users get wrong, one by one: the message names the value, what was expected, how to mend it, and where.

Each case runs through Python and, where a file can carry it, through the command line: exit code 2, no traceback.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from film_models import FLAGS, SETTINGS, Quiet, plain_rows, write_csv
from polydetr import Predictor
from polydetr.errors import PolydetrError

GOOD = "".join(f"{row['text']},{row['label']}\n" for row in plain_rows(20))
SPAN = '{"text": "Ada met Bob", "entities": [%s]}\n'
ADA = '{"start": 0, "end": 3, "label": "PER"}'
FINE = "".join((SPAN % ADA).replace("Bob", f"Bob {i}") for i in range(12))


@dataclass(frozen=True)
class Case:
    """``content`` is a training file; every one of ``says`` stands in the message."""

    name: str
    content: bytes | str
    says: tuple[str, ...]
    file: str = "train.csv"
    target: str = "label"
    flags: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


CASES = [
    Case("missing column", "text,stars\n" + GOOD, ("no column 'label'", "'text', 'stars'")),
    Case("misspelt column", "text,lable\n" + GOOD, ("no column 'label'", "Did you mean 'lable'?")),
    Case("empty file", "", ("train.csv", "is empty", "expected rows")),
    Case("header alone", "text,label\n", ("train.csv",)),
    Case(
        "wrong encoding",
        b"text,label\n" + "很好的电影,good\n糟糕的电影,bad\n".encode("gb18030"),
        ("train.csv, line 2", "is not utf-8", "likely gb18030", "--encoding gb18030", "UTF-8"),
    ),
    Case("ragged row", "text,label\n" + GOOD + "only one cell\n", ("train.csv, line 22", "expected 2")),
    Case(
        "unknown configuration keys",
        "text,label\n" + GOOD,
        (
            "2 faults",
            "unknown key 'epoch'",
            "Did you mean 'epochs'?",
            "unknown key 'training.lrr'",
            "Did you mean 'lr'?",
        ),
        flags=("--set", "epoch=3", "--set", "training.lrr=1"),
        settings={"epoch": 3, "training": {"lrr": 1}},
    ),
    Case(
        "one class",
        "text,label\n" + "".join(f"scene {i},good\n" for i in range(20)),
        ("'label'", "one class only", "'good'", "Add rows"),
    ),
    Case(
        "text in a numeric column",
        "text,stars\n" + "".join(f"scene {i},{i / 7}\n" for i in range(30)) + "scene x,many\n",
        ("train.csv, line 32", "column 'stars'", "'many'", "number"),
        target="stars:regression",
    ),
    Case(
        "null text",
        '{"text": "warm", "label": "a"}\n{"text": "cold", "label": "b"}\n{"text": null, "label": "b"}\n',
        ("train.jsonl, line 3", "column 'text'", "text is missing (None)", "Give a string"),
        file="train.jsonl",
    ),
    Case(
        "NaN text",
        '{"text": "warm", "label": "a"}\n{"text": "cold", "label": "b"}\n{"text": NaN, "label": "b"}\n',
        ("train.jsonl, line 3", "column 'text'", "text is missing"),
        file="train.jsonl",
    ),
    Case(
        "a span outside the text",
        FINE + SPAN % '{"start": 8, "end": 90, "label": "PER"}',
        ("train.jsonl, line 13", "8", "90", "11 characters", "end is exclusive"),
        file="train.jsonl",
        target="entities",
    ),
    Case(
        "half a span",
        FINE + SPAN % '{"start": 8, "label": "PER"}',
        ("train.jsonl, line 13", "is not a span", '"end"'),
        file="train.jsonl",
        target="entities",
    ),
]


@pytest.fixture
def write(tmp_path):
    def write(case: Case) -> Path:
        path = tmp_path / case.file
        path.write_bytes(case.content if isinstance(case.content, bytes) else case.content.encode())
        return path

    return write


def in_python(case: Case, path: Path) -> str:
    with pytest.raises(PolydetrError) as caught:
        Predictor.fit(str(path), case.target, inputs="text:text", backbone="none", epochs=0.2,
                      settings=SETTINGS | case.settings, display=Quiet())  # fmt: skip
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_bad_training_file(case, write):
    message = in_python(case, write(case))
    for part in case.says:
        assert part in message
    assert len(message) < 1000


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_same_on_the_command_line(case, write, run, tmp_path):
    out = tmp_path / "model"
    code, printed, err = run("train", "--train", write(case), "--target", case.target, "--input", "text:text",
                             "--out", out, "--json", *FLAGS, *case.flags)  # fmt: skip
    assert code == 2
    assert printed == ""
    assert "Traceback" not in err
    said = err[err.index("polydetr: ") :]
    for part in case.says:
        assert part in said
    assert not out.exists()


# -- what is no error but must not go by in silence ---------------------------------------------------------------


def fit(rows: Any, target: str = "label", **given: Any) -> tuple[Predictor, list[str]]:
    shown = Quiet()
    given = {"backbone": "none", "epochs": 0.2, "settings": SETTINGS, "display": shown} | given
    return Predictor.fit(rows, target, **given), shown.notes


def test_a_label_unseen_in_training_is_named_and_counted(run, tmp_path):
    rows = [*plain_rows(6, start=50), {"text": "a strange one", "label": "odd"}]
    model, notes = fit(plain_rows(30), valid=rows, out=tmp_path / "model")
    assert any("'odd' (1)" in note and "training never saw" in note for note in notes)
    code, out, err = run("evaluate", model.folder, write_csv(tmp_path / "test.csv", rows), "--json")
    assert code == 0
    json.loads(out)
    assert "'odd' (1)" in err


def test_a_token_of_300000_characters_is_read():
    long = "x" * 300_000
    model, _ = fit([*plain_rows(20), {"text": long, "label": "good"}])
    (found,) = model.predict([long])
    assert found["label"] in ("good", "bad")
    tagger, _ = fit([json.loads(line) for line in FINE.splitlines()], "entities", inputs="text")
    (found,) = tagger.predict([f"Ada {long} Bob"])
    assert all(0 <= s["start"] < s["end"] <= 300_008 for s in found["entities"])


@pytest.mark.parametrize(
    ("spans", "said"),
    [
        ('{"start": 0, "end": 3, "label": "PER"}, {"start": 0, "end": 7, "label": "ORG"}', "overlap"),
        ('{"start": 0, "end": 2, "label": "PER"}', "word"),
    ],
    ids=["overlapping", "inside a word"],
)
def test_spans_that_tags_cannot_hold_are_reported(tmp_path, spans, said):
    path = tmp_path / "train.jsonl"
    path.write_text(FINE + SPAN % spans)
    _, notes = fit(str(path), "entities", inputs="text")
    assert any(said in note for note in notes), notes


@pytest.mark.parametrize("value", [None, float("nan"), 7, {"a": 1}])
def test_prediction_rejects_what_is_no_text(value):
    model, _ = fit(plain_rows(20))
    good, bad = model.stream([{"text": "fine"}, {"text": value}])
    assert "prediction" in good
    assert "row 2, column 'text'" in bad["error"]


# -- folders; the details are in test_folder.py -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:99]), "truncated"),
        (lambda f: (f / "tokenizer.json").unlink(), "lacks 'tokenizer.json'"),
        (lambda f: (f / "polydetr.json").write_text('{"format_version": 99}'), "Upgrade polydetr"),
        (lambda f: (f / "polydetr.json").write_text("{"), "cannot be read"),
    ],
    ids=["truncated", "missing file", "newer version", "tampered"],
)
def test_a_damaged_folder_on_the_command_line(run, tmp_path, damage, said):
    fit(plain_rows(20), out=tmp_path / "model")
    damage(tmp_path / "model")
    code, out, err = run("predict", tmp_path / "model", write_csv(tmp_path / "rows.csv", plain_rows(2)))
    assert code == 2
    assert out == ""
    assert said in err
    assert "Traceback" not in err
