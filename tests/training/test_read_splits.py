"""What a run reads: rows held out, what is told about them, targets that are not measured."""

from __future__ import annotations

import json

import pytest
from tiny_runs import TINY, Watched

from polydetr import Predictor
from polydetr.config.loading import load_config
from polydetr.errors import SchemaError
from polydetr.training.read import read_splits


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYDETR_CACHE", str(tmp_path / "cache"))


def read(train, display, **settings):
    given = {name: settings.pop(name, None) for name in ("valid", "test")}
    return read_splits(load_config(settings), train=train, display=display, **given)


ROWS = [{"word": f"{i % 12} of them", "ward": f"w{i % 6}", "x": i / 3, "y": "ab"[i % 2]} for i in range(60)]


def test_the_column_of_the_groups_is_not_read_and_no_group_is_parted():
    watched = Watched()
    splits, schema = read(ROWS, watched, target={"y": None}, group="ward", inputs={"word": "text", "*": None})
    assert {f.name: f.modality for f in schema.inputs} == {"word": "text", "x": "number", "ward": "ignore"}
    assert not {r.row["ward"] for r in splits.train} & {r.row["ward"] for r in splits.valid}
    _, schema = read(ROWS, watched, target={"y": None}, group="ward", inputs={"x": None, "ward": "category"})
    assert [f.modality for f in schema.inputs] == ["number", "category"]
    train, valid = ROWS[:40], ROWS[40:]
    read(train, watched, valid=valid, target={"y": None}, group="ward")
    assert any("20 of 20 valid rows belong to a 'ward' of which train has rows too" in note for note in watched.notes)


def test_rows_that_stand_in_two_splits_are_told(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    watched = Watched()
    read(
        str(file),
        watched,
        valid=str(file),
        test=[*ROWS[:2], {**ROWS[3], "x": 99.5, "word": "none"}],
        target={"y": None},
    )
    told = "\n".join(watched.notes)
    assert "train and valid are the same rows, given twice" in told
    assert "2 of 3 test rows have a copy in train" in told
    watched = Watched()
    read(ROWS, watched, target={"y": None})
    assert not any("copy" in note for note in watched.notes)


def test_a_target_without_a_label_in_a_split_is_told_and_not_measured(tmp_path):
    """The others are trained, measured, calibrated and reported all the same."""
    train = [{"x": i / 10, "y": "ab"[i % 2], "price": i / 10 if i < 30 else None} for i in range(40)]
    valid = [{"x": i / 9, "y": "ab"[i % 2], "price": None} for i in range(24)]
    watched = Watched()
    predictor = Predictor.fit(
        train, {"y": "classification", "price": "regression"}, valid=valid, backbone="none", epochs=1, settings=TINY,
        out=tmp_path / "m", display=watched,
    )  # fmt: skip
    assert "the validation rows have no value of 'price': it is not measured there" in watched.notes
    assert set(predictor.metrics["valid"]) == {"y"}
    assert {name for entry in watched.entries for name in entry["metrics"]} == {"y"}
    assert set(predictor.predict([{"x": 0.4}])[0]) == {"y", "price"}


def test_a_split_without_any_label_is_refused_before_the_first_step():
    train = [{"x": i / 10, "y": "ab"[i % 2]} for i in range(40)]
    watched = Watched()
    with pytest.raises(SchemaError, match="in the validation rows no row has a value for target 'y'"):
        Predictor.fit(
            train, "y", valid=[{"x": 0.1, "y": None}], backbone="none", epochs=1, settings=TINY, display=watched
        )
    assert watched.losses == []
