"""What users get wrong in pictures and tables: each case through Python and through the command line, with the message,
and what is no error but must be told.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from film_models import FLAGS, SETTINGS, Quiet
from huge_pictures import huge_png
from polydetr import Predictor
from polydetr.errors import PolydetrError

SMALL = SETTINGS | {"image": {"size": 16, "patch_size": 8}}
IMAGE_FLAGS = [*FLAGS, "--set", "image.size=16", "--set", "image.patch_size=8"]


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A folder with good pictures, red and blue, and every kind of bad one."""
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(12):
        Image.new("RGB", (24, 20), ("red", "blue")[i % 2]).save(folder / f"{i}.jpg")
    noise = Image.frombytes("RGB", (64, 64), random.Random(0).randbytes(64 * 64 * 3))
    noise.save(folder / "whole.jpg")
    content = (folder / "whole.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(content[: len(content) // 2])
    (folder / "bomb.png").write_bytes(huge_png(40_000, 40_000))
    (folder / "large.png").write_bytes(huge_png(9_000, 9_000))
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("just some words")
    noise.save(tmp_path / "outside.jpg")
    return folder


def photo_csv(folder: Path, *bad: str) -> Path:
    path = folder / "train.csv"
    lines = ["photo,label", *(f"{i}.jpg,{'rb'[i % 2]}" for i in range(12)), *(f"{name},r" for name in bad)]
    path.write_text("\n".join(lines) + "\n")
    return path


def refused(source: Any, target: str, **given: Any) -> str:
    with pytest.raises(PolydetrError) as caught:
        fit(source, target, **given)
    assert caught.value.exit_code == 2
    return str(caught.value)


def fit(source: Any, target: str, **given: Any) -> tuple[Predictor, list[str]]:
    shown = Quiet()
    given = {"backbone": "none", "epochs": 0.2, "settings": SMALL, "display": shown} | given
    return Predictor.fit(source if isinstance(source, list) else str(source), target, **given), shown.notes


# -- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "says", "mend"),
    [
        ("truncated.jpg", "is broken or cut off", "Copy the image again, or leave the cell empty."),
        ("bomb.png", "pixels, more than image.max_pixels", "Make it smaller first"),
        ("large.png", "has 9,000 x 9,000 pixels, more than image.max_pixels", "allow it: train --max-pixels N"),
        ("empty.png", "is empty (0 bytes)", "Copy the image again"),
        ("text.png", "is not an image that can be read.", "Expected one of JPEG"),
        ("absent.jpg", "does not exist (looked at", "Relative paths begin at the folder"),
        (
            "../outside.jpg",
            "leads out of the folder",
            "or name a folder that holds all images: --images FOLDER (ReadOptions(images='FOLDER'))",
        ),
    ],
)
def test_a_bad_picture_names_its_row_and_a_way_out(pictures, run, tmp_path, name, says, mend):
    path = photo_csv(pictures, name)
    inside = {"image": SMALL["image"] | {"root": str(pictures)}}
    message = refused(path, "label", settings=SMALL | inside)
    for part in (f"{path}, line 14, column 'photo': {name!r}", says, mend):
        assert part in message
    out = tmp_path / "model"
    code, printed, err = run("train", path, "--target", "label", "--out", out, "--json", *IMAGE_FLAGS,
                             "--set", f"image.root={pictures}")  # fmt: skip
    assert (code, printed) == (2, "")
    assert f"polydetr: {message}\n" in err
    assert "Traceback" not in err
    assert not out.exists()


def test_bad_pictures_that_are_skipped_are_counted_and_listed(pictures, tmp_path):
    path = photo_csv(pictures, "truncated.jpg", "text.png", "absent.jpg")
    model, notes = fit(path, "label", valid=str(path), out=tmp_path / "model", settings=SMALL | {"on_error": "skip"})
    told = next(i for i, note in enumerate(notes) if "6 rows are left out" in note)  # of both splits
    assert "rejected.jsonl" in notes[told]
    assert notes[told + 1].startswith(f"  {path}, line 14, column 'photo': 'truncated.jpg' is broken or cut off")
    lines = (tmp_path / "model/reports/rejected.jsonl").read_text().splitlines()
    assert [json.loads(line)["line"] for line in lines] == [14, 15, 16] * 2
    assert model.info["rows"] | {"test": 0} == {"train": 12, "valid": 12, "test": 0, "rejected": 6}


# -- tables -----------------------------------------------------------------------------------------------------------


def table_csv(tmp_path: Path, **columns: list[Any]) -> Path:
    path = tmp_path / "table.csv"
    rows = zip(*columns.values(), strict=True)
    lines = [",".join(columns), *(",".join(f'"{cell}"' for cell in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


N = 80
LABELS = [("yes", "no")[i % 2] for i in range(N)]
NUMBERS = [round(random.Random(i).random(), 4) for i in range(N)]


def test_thousands_and_n_a_are_a_column_of_numbers(tmp_path):
    income = ["n/a" if i % 5 == 0 else f"{1000 * i + 7:,}" for i in range(N)]
    model, notes = fit(table_csv(tmp_path, income=income, x=NUMBERS, label=LABELS), "label")
    assert [f.modality for f in model.schema.inputs] == ["number", "number"]
    assert any(note.startswith("column 'income': missing in") for note in notes)
    (found,) = model.stream([{"income": "1,000,000,000", "x": "0.5"}])
    assert "far outside the training rows" in found["warnings"][0]


@pytest.mark.filterwarnings("ignore:.*is no better than")  # one epoch teaches nothing
def test_thousands_and_n_a_in_a_target(tmp_path):
    price = ["n/a" if i == 40 else f"{1500.5 * i:,.1f}" for i in range(N)]
    path = table_csv(tmp_path, x=NUMBERS, price=price)
    model, notes = fit(path, "price", valid=str(path))
    assert model.schema.targets[0].task == "regression"
    assert any("1 of 80 training rows have no 'price'" in note for note in notes)
    assert model.evaluate(str(path))["price"]["total"] == N - 1


@pytest.mark.parametrize(
    ("columns", "target", "says"),
    [
        (
            {"v": [*NUMBERS[:-1], "lots"], "label": LABELS},
            "label",
            ("line 81, column 'v': 'lots' is not a number.", "a column of words is a category"),
        ),
        (
            {"v": [*NUMBERS[:-1], "inf"], "label": LABELS},
            "label",
            ("line 81, column 'v': 'inf' is infinite", "write the largest value that makes sense"),
        ),
        (
            {"v": NUMBERS, "price": [*NUMBERS[:-1], "-inf"]},
            "price",
            ("line 81, column 'price': '-inf' is infinite", "price:classification"),
        ),
        (
            {"v": NUMBERS, "price": [*NUMBERS[:-1], "lots"]},
            "price",
            ("line 81, column 'price': 'lots' is not a number.", "Leave the cell empty", "price:classification"),
        ),
        (
            {"empty": [""] * N, "same": [7] * N, "label": LABELS},
            "label",
            ("no column is left to predict 'label' from", "Add a column to predict from"),
        ),
    ],
    ids=["a word among numbers", "an infinite number", "an infinite target", "a word in the target", "nothing to read"],
)
def test_a_bad_table(tmp_path, run, columns, target, says):
    path = table_csv(tmp_path, **columns)
    message = refused(path, target, valid=str(path))
    code, printed, err = run("train", path, "--target", target, "--valid", path, "--json", *FLAGS)
    assert (code, printed) == (2, "")
    assert f"polydetr: {message}\n" in err
    for part in says:
        assert part in message


def test_empty_and_constant_columns_are_left_out_and_told(tmp_path):
    path = table_csv(tmp_path, empty=[""] * N, same=["x"] * N, v=NUMBERS, label=LABELS)
    model, notes = fit(path, "label")
    assert [f.name for f in model.schema.inputs if f.modality != "ignore"] == ["v"]
    assert "Column 'empty' is left out: it has no values." in notes
    assert "Column 'same' is left out: every row has the same value 'x'." in notes


def test_a_column_that_tells_the_target_is_warned_of(tmp_path, run):
    taxed = [1.2 * n for n in NUMBERS]
    path = table_csv(tmp_path, taxed=taxed, v=NUMBERS[::-1], price=NUMBERS)
    _, notes = fit(path, "price")
    assert any("column 'taxed' alone has the order (correlation 1.000) of 'price'" in note for note in notes)
    code, out, _ = run("inspect", path, "--target", "price")
    assert code == 0
    assert "column 'taxed' alone has the order" in " ".join(out.split())
    code, out, _ = run("inspect", path, "--target", "price", "--json")
    assert "too good to be true" in json.loads(out)["giveaways"][0]


# -- the contract: rows that a finished model is asked about ----------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Predictor:
    folder = tmp_path_factory.mktemp("mixed")
    for i in range(4):
        Image.new("RGB", (24, 20), ("red", "blue")[i % 2]).save(folder / f"{i}.png")
    rows = [
        {"photo": f"{i % 4}.png", "title": f"a {'nice' if i % 2 else 'plain'} thing", "note": f"note of {i}",
         "colour": ("red", "blue")[i % 2], "weight": 1 + i / 10, "label": ("r", "b")[i % 2]}
        for i in range(40)
    ]  # fmt: skip
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {"photo": "image", "title": "text", "note": "text", "colour": "category", "weight": "number"}
    settings = SMALL | {"text": {"max_tokens": 24, "overlap": 4}}
    model, _ = fit(folder / "train.jsonl", "label", inputs=given, settings=settings, out=folder / "model")
    return model


def asked(mixed: Predictor, **changes: Any) -> Path:
    """A file of one good row and the same row with ``changes``."""
    assert mixed.folder is not None
    good = {"photo": "1.png", "title": "a nice thing", "note": "new", "colour": "red", "weight": 2.0}
    path = mixed.folder.parent / "ask.jsonl"
    path.write_text(json.dumps(good) + "\n" + json.dumps(good | changes) + "\n")
    return path


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"weight": "heavy"}, "wrong_type", "column 'weight': 'heavy' is not a number"),
        ({"title": 7}, "wrong_type", "column 'title': 7 is int, expected a string"),
        ({"photo": "absent.png"}, "unreadable", "column 'photo': 'absent.png' does not exist"),
    ],
)
def test_what_cannot_be_read_is_rejected_or_taken_as_missing(mixed, changes, kind, says):
    path = asked(mixed, **changes)
    for strictness in ("strict", "normal"):
        good, bad = mixed.stream(path, strictness=strictness)
        assert "prediction" in good
        assert f"{path}, line 2, {says}" in bad["error"]
    _, taken = mixed.stream(path, strictness="lenient")
    assert "prediction" in taken
    assert len(taken["warnings"]) == 2
    report = mixed.check(path)
    (column,) = changes
    assert report.counts == {(kind, column): 1}
    assert report.to_dict()["rejected"]["count"] == 1
    assert f"{kind.replace('_', ' ')} in column {column!r}: 1 of 2 rows" in report.lines()[0]


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"colour": "ultraviolet"}, "unseen_category", "'ultraviolet' in column 'colour' is none of the 2 categories"),
        ({"weight": 900}, "out_of_range", "900 in column 'weight' is far outside the training rows"),
        ({"title": "nice " * 99}, "truncated", "'title'"),
        ({"photo": None}, "missing", "'photo' is missing"),
        ({"title": " "}, "missing", "'title' is missing"),
    ],
)
def test_what_can_be_read_is_told_or_rejected(mixed, changes, kind, says):
    path = asked(mixed, **changes)
    _, refused_row = mixed.stream(path, strictness="strict")
    assert kind.replace("_", " ") in refused_row["error"]
    assert says in refused_row["error"]
    for strictness in ("normal", "lenient"):
        good, told = mixed.stream(path, strictness=strictness)
        assert "warnings" not in good
        assert "prediction" in told
        assert says in told["warnings"][0]
    report = mixed.check(path)
    assert report.counts == {(kind, *changes): 1}
    assert report.rejected == []


def test_a_column_that_is_not_there(mixed, run, tmp_path):
    path = tmp_path / "ask.jsonl"
    path.write_text('{"photo": null, "title": "a nice thing", "note": "new", "weight": 2.0}\n')
    code, out, err = run("predict", mixed.folder, path)
    assert (code, out) == (2, "")
    assert f"{path}: there is no column 'colour', which the model reads" in err
    assert "predict --lenient" in err
    code, out, _ = run("predict", mixed.folder, path, "--lenient")
    assert code == 0
    assert "column 'colour' is missing" in json.loads(out)["warnings"]
    for verb in ("evaluate", "explain"):
        code, _, err = run(verb, mixed.folder, path)
        assert code == 2
        assert "Add the column." in err
        assert "lenient" not in err


def test_an_empty_cell_is_missing_whatever_the_file(mixed):
    """A CSV knows no null: both spellings give the same tokens."""
    blank, null = (mixed.predict_proba(asked(mixed, title=value))[1]["label"] for value in ("", None))
    assert blank == null
