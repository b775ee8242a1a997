"""Corrections among the rows of a run: repaired where they stand, added to the training rows, told in a line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny_runs import Watched

from polydetr.config.loading import load_config
from polydetr.errors import DataFileError, InputError, SchemaError
from polydetr.training.encode import Splits
from polydetr.training.read import read_splits

Rows = Sequence[Mapping[str, Any]]
ROWS: list[dict[str, Any]] = [
    {"text": f"scene {i} of an evening", "minutes": 80 + i, "label": "ab"[i % 2]} for i in range(40)
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYDETR_CACHE", str(tmp_path / "cache"))


def read(train: Any, corrections: Any, **settings: Any) -> tuple[Splits, list[str]]:
    """The splits, and what was told."""
    watched = Watched()
    given = {name: settings.pop(name, None) for name in ("valid", "test")}
    config = load_config({"target": {"label": None}, **settings})
    splits, _ = read_splits(config, train=train, corrections=corrections, display=watched, **given)
    return splits, watched.notes


def line_of(notes: Sequence[str]) -> str:
    (line,) = [note for note in notes if " repaired" in note]
    return line


def texts(records: Sequence[Any]) -> list[str]:
    return [record.row["text"] for record in records]


def json_lines(path: Path, rows: Rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def test_rows_are_repaired_where_they_stand_and_others_added_to_the_training_rows(tmp_path: Path) -> None:
    before, _ = read(ROWS, None)
    held = before.valid[0].row
    corrections = [
        {**ROWS[0], "label": "c"}, {**held, "label": "b" if held["label"] == "a" else "a"},
        {"text": "new", "minutes": 99, "label": "a"},
    ]  # fmt: skip
    after, notes = read(ROWS, json_lines(tmp_path / "corrected.jsonl", corrections))
    trained = ROWS[0]["text"] in texts(before.train)
    where = "" if not trained else " (1 training, 1 validation)"
    assert line_of(notes) == f"3 corrections: 2 rows repaired{where or ' (2 validation)'}, 1 added"
    assert texts(after.valid) == texts(before.valid)
    assert texts(after.train) == [*texts(before.train), "new"]
    assert after.valid[0].row["label"] == corrections[1]["label"]
    changed = {r.row["text"]: r.row["label"] for r in [*after.train, *after.valid]}
    assert changed[ROWS[0]["text"]] == "c"
    assert sum(changed[row["text"]] != row["label"] for row in ROWS) == 2


def test_a_row_of_the_test_file_is_repaired_there_and_not_trained_on() -> None:
    test = [{"text": "measured", "minutes": 1, "label": "a"}, {"text": "too", "minutes": 2, "label": "b"}]
    splits, notes = read(ROWS, [{**test[0], "label": "b"}], test=test, valid=ROWS[:4])
    assert line_of(notes) == "1 correction: 1 row repaired (1 test), 0 added"
    assert [record.row["label"] for record in splits.test or ()] == ["b", "b"]
    assert len(splits.train) == 40


def test_the_latest_of_conflicting_corrections_wins_and_is_counted() -> None:
    row = {"text": "new", "minutes": 1}
    said = [{**row, "label": "a"}, {**row, "label": "b"}, {**row, "label": "b"}, {**row, "minutes": 2, "label": "a"}]
    splits, notes = read(ROWS, said)
    assert line_of(notes) == (
        "4 corrections: 0 rows repaired, 2 added; 1 of them replaced an earlier one of the same row"
    )
    assert [record.row["label"] for record in splits.train[-2:]] == ["b", "a"]


def test_numbers_are_the_same_however_they_are_written_and_labels_keep_their_type(tmp_path: Path) -> None:
    rows = [{"text": f"row {i}", "minutes": f"{i},5", "label": i % 2} for i in range(40)]
    file = tmp_path / "corrected.csv"
    file.write_text('text,minutes,label\nrow 3,3.5,"0"\nrow 4,4.5,7\n', "utf-8")
    splits, notes = read(rows, str(file))
    assert line_of(notes).startswith("2 corrections: 2 rows repaired")
    found = {record.row["text"]: record.row["label"] for record in [*splits.train, *splits.valid]}
    assert (found["row 3"], found["row 4"]) == (0, "7")


def test_a_cell_that_was_kept_from_being_a_formula_is_the_row_it_was(tmp_path: Path) -> None:
    spans = [{"start": 1, "end": 4, "label": "PER", "text": "Ada"}]
    rows = [{"text": f"@Ada met {i}", "label": spans} for i in range(20)]
    moved = json.dumps([{**spans[0], "start": 6, "end": 9, "text": "met"}]).replace('"', '""')
    file = tmp_path / "corrected.csv"
    file.write_text(f'text,label\n"\'@Ada met 3","{moved}"\n"\'@Eve met 9","{moved}"\n', "utf-8")
    splits, notes = read(rows, str(file), target={"label": "tagging"})
    assert "1 row repaired" in line_of(notes)
    assert "1 added" in line_of(notes)
    found = {record.row["text"]: record.row["label"] for record in [*splits.train, *splits.valid]}
    for text in ("@Ada met 3", "@Eve met 9"):
        (span,) = found[text]
        assert text[span["start"] : span["end"]] == "met"


def test_images_are_the_same_by_their_bytes(tmp_path: Path) -> None:
    for name, color in (("a.png", 10), ("b.png", 200)):
        Image.new("RGB", (8, 8), (color, 0, 0)).save(tmp_path / name)
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "sha.png").write_bytes((tmp_path / "b.png").read_bytes())
    rows = [{"image": "ab"[i % 2] + ".png", "label": "ab"[i % 2], "text": f"row {i}"} for i in range(20)]
    corrected = json_lines(tmp_path / "corrected.jsonl", [
        {"image": "beside/sha.png", "text": "row 3", "label": "c"}, {"image": "a.png", "text": "row 3", "label": "d"},
    ])  # fmt: skip
    splits, notes = read(json_lines(tmp_path / "rows.jsonl", rows), corrected)
    assert "1 row repaired" in line_of(notes)
    found = {record.row["text"]: record.row["label"] for record in [*splits.train[:-1], *splits.valid]}
    assert found["row 3"] == "c"
    assert splits.train[-1].row == {"image": "a.png", "text": "row 3", "label": "d"}


def test_lists_are_read_as_those_of_the_training_rows(tmp_path: Path) -> None:
    rows = [{"text": f"row {i}", "label": ("a|b", "b|c", "c|a")[i % 3]} for i in range(30)]
    file = tmp_path / "corrected.csv"
    file.write_text('text,label\nrow 1,"[""c""]"\nrow 2,a|c\n', "utf-8")
    splits, _ = read(rows, str(file))
    found = {record.row["text"]: record.row["label"] for record in [*splits.train, *splits.valid]}
    assert (found["row 1"], found["row 2"], found["row 3"]) == (["c"], ["a", "c"], ["a", "b"])


def test_a_target_that_was_not_corrected_stays() -> None:
    rows = [{**row, "stars": i % 5} for i, row in enumerate(ROWS)]
    target = {"label": "classification", "stars": "regression"}
    splits, _ = read(rows, [{**ROWS[3], "stars": 9}, {**ROWS[4], "label": "b", "stars": None}], target=target)
    found = {record.row["text"]: record.row for record in [*splits.train, *splits.valid]}
    assert (found[ROWS[3]["text"]]["label"], found[ROWS[3]["text"]]["stars"]) == ("b", 9)
    assert (found[ROWS[4]["text"]]["label"], found[ROWS[4]["text"]]["stars"]) == ("b", 4)


@pytest.mark.parametrize(("corrections", "error", "said"), [
    ([], SchemaError, "there are no corrections"),
    ([{"text": "x", "minutes": 1, "tags": "a"}], SchemaError, "are of 'tags'; this training predicts 'label'"),
    ([{"text": "x", "label": "a"}], SchemaError, "have no column 'minutes', which this training reads"),
    ([{"text": "x", "minutes": 1, "label": ""}], SchemaError, "no row has a value of 'label'"),
    ("absent.jsonl", DataFileError, "absent.jsonl"),
])  # fmt: skip
def test_what_is_none_of_this_training_is_refused_by_name(corrections: Any, error: type[InputError], said: str) -> None:
    with pytest.raises(error) as caught:
        read(ROWS, corrections)
    assert said in str(caught.value)
    if corrections == "absent.jsonl":
        return
    with pytest.raises(error):
        read(ROWS, corrections, valid=ROWS[:4])
