"""What a detector learns of its rows: counted before training, with example and remedy; refused where it is nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detection_scenes import SMALL, scenes
from polydetr import Predictor
from polydetr.config.loading import load_config, merge
from polydetr.data.inspect import inspect_data
from polydetr.data.inspect_view import findings
from polydetr.engine.measure import evaluate_results, unseen_warnings
from polydetr.errors import SchemaError
from polydetr.training.encode import Splits, encode_rows
from tiny_models import as_records, make_engine

TARGET = {"objects": "detection"}
SHARES = r"the boxes of 'objects' lie between 0 and 1, as shares of their images do \(the first is \[0\.1"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYDETR_CACHE", str(tmp_path / "cache"))


def with_objects(*boxes: list[float], label: str = "ruby", **more: Any) -> list[dict[str, Any]]:
    """Four images, 64×64, each with these objects."""
    return [{**row, "objects": [{"box": box, "label": label, **more} for box in boxes]} for row in scenes(4)]


def told(rows: list[dict[str, Any]], **image: Any) -> list[str]:
    """The messages of a run up to its first step."""
    settings = merge(SMALL, {"image": image})
    engine = make_engine(rows, TARGET, inputs={"photo": "image"}, settings=settings)
    config = load_config(merge(settings, {}), target=TARGET, inputs={"photo": "image"}, backbone="none")
    notes: list[str] = []
    for _ in range(2):  # the second time out of the cache
        notes.clear()
        encode_rows(engine, Splits(as_records(rows), as_records(rows[:1])), config, "x", notify=notes.append)
    return notes


def test_the_count_is_of_what_trains() -> None:
    rows = [*with_objects([5, 5, 25, 25], [10, 30, 60, 60]), *with_objects([70, 70, 90, 90], label="azure")]
    rows += with_objects([0, 0, 64, 64], crowd="1", label="cloud")
    notes = told(rows)
    assert "8 objects of 1 classes in 12 images, at most 2 in one, none in 8" in notes
    (lost,) = [note for note in notes if note.startswith("8 of 16 objects of 'objects' cannot be learned: ")]
    assert "4 lie outside their images (rows.jsonl, row 5: the box [70, 70, 90, 90] lies outside its image" in lost
    assert "4 are crowds, regions of many (rows.jsonl, row 9: cloud: [0.0, 0.0, 64.0, 64.0])" in lost
    assert lost.endswith("Then scale them. Write iscrowd 0 where each is one object.")
    assert "no object of 'azure' is learned: it will not be answered" in notes


def test_nothing_is_said_of_objects_that_are_all_learned() -> None:
    rows = with_objects([5, 5, 25, 25])
    assert [note for note in told(rows) if "objects" in note] == [
        "4 objects of 1 classes in 4 images, at most 1 in one, none in 0"
    ]


def test_too_small_depends_on_the_size_that_the_model_sees() -> None:
    rows = [{"photo": np.zeros((64, 640, 3), np.uint8), "objects": [{"box": [9, 9, 15, 40], "label": "post"}]}] * 2
    with pytest.raises(
        SchemaError, match=r"2 are too small \(rows\.jsonl, row 1: post: 6×31 of 640×64 pixels, 0\.6×31 of"
    ):
        told(rows)
    assert "2 objects of 1 classes in 2 images, at most 1 in one, none in 0" in told(rows, size=128)


@pytest.mark.parametrize(
    ("boxes", "more", "reason"),
    [
        ([[80, 80, 176, 176]], {}, r"4 lie outside their images \(row 1: the box \[80, 80, 176, 176\]"),
        ([[44, 44, 150, 150]], {}, r"4 lie mostly outside their images \(row 1: ruby: 3\.6% of it"),
        ([[9, 9, 9.5, 40]], {}, r"4 are too small .* Set a larger image\.size, or cut the images into tiles"),
        ([[9, 9, 30, 40]], {"crowd": True}, r"4 are crowds, regions of many .* Write iscrowd 0"),
        ([[9, 9, 9, 40]], {}, r"4 have no area \(row 1: the box \[9, 9, 9, 40\] has no area\)\. Repair these boxes\."),
    ],
)
def test_a_run_that_would_learn_nothing_is_refused(boxes: list[list[float]], more: dict[str, Any], reason: str) -> None:
    rows = with_objects(*boxes, **more)
    with pytest.raises(SchemaError, match=rf"none of the 4 objects of target 'objects' can be learned: {reason}"):
        Predictor.fit(rows, TARGET, valid=rows, inputs={"photo": "image"}, backbone="none", settings=SMALL)


def test_columns_called_width_and_height_are_not_the_images() -> None:
    rows = [{**row, "width": 12, "height": 9} for row in with_objects([10, 10, 40, 40])]
    assert "4 objects of 1 classes in 4 images, at most 1 in one, none in 0" in told(rows)


def test_shares_are_refused_by_every_verb() -> None:
    good, bad = with_objects([5, 5, 25, 25]), with_objects([0.1, 0.2, 0.5, 0.6], [0.2, 0.2, 1.01, 0.4])
    with pytest.raises(SchemaError, match=SHARES):
        make_engine(bad, TARGET, inputs={"photo": "image"}, settings=SMALL)
    engine = make_engine(good, TARGET, inputs={"photo": "image"}, settings=SMALL)
    config = load_config(SMALL, target=TARGET, inputs={"photo": "image"}, backbone="none")
    with pytest.raises(SchemaError, match=SHARES):
        encode_rows(engine, Splits(as_records(good), as_records(bad)), config, "y", notify=lambda _: None)
    with pytest.raises(SchemaError, match=SHARES):
        evaluate_results(engine, list(engine.run(as_records(bad), with_targets=True)))
    (line,) = [line for line in findings(inspect_data(bad, target=TARGET)) if "shares" in line]
    assert line.startswith("train: the boxes of 'objects' lie between 0 and 1")


def test_what_is_not_measured_is_told() -> None:
    engine = make_engine(with_objects([5, 5, 25, 25]), TARGET, inputs={"photo": "image"}, settings=SMALL)
    rows = with_objects([5, 5, 25, 25], [100, 100, 120, 120])
    found = evaluate_results(engine, list(engine.run(as_records(rows), with_targets=True)))["objects"]
    (line,) = unseen_warnings("objects", found, where="these rows")
    assert line.startswith("these rows: 4 of 8 objects of 'objects' are not measured: 4 lie outside their images (rows")
    assert unseen_warnings("objects", found, where="the test rows", left_out=False) == []  # told before training
    config = load_config(SMALL, target=TARGET, inputs={"photo": "image"}, backbone="none")
    notes: list[str] = []
    good = as_records(with_objects([5, 5, 25, 25]))
    encode_rows(engine, Splits(good, good, as_records(rows)), config, "z", notify=notes.append)
    assert [note for note in notes if "rows: 4 of 8" in note] == [line.replace("these rows", "test rows")]
