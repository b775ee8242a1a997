"""What a model folder knows of its measuring, read as numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polydetr.metrics.calibration import wilson_interval
from polydetr.metrics.classification import classification_report
from polydetr.studio.figures import (
    confusion_of,
    coverage_of,
    curves_of,
    history_of,
    label_scores,
    measured,
    reliability_of,
    splits_of,
    targets_of,
    with_interval,
)


def described(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "polydetr.json").read_text(encoding="utf-8"))


def test_a_trained_folder_tells_every_figure(several_folder: Path) -> None:
    info = described(several_folder)
    assert splits_of(several_folder, info) == ["valid"]
    assert targets_of(info) == {"label": "classification", "stars": "regression", "entities": "entities"}
    found = measured(several_folder, info, "valid", "label")
    assert found.count == len(found.rows)
    assert {"text", "minutes"} == set(found.rows[0]["row"])
    assert all(isinstance(row["right"], bool) and row["whole"] for row in found.rows)
    right = sum(row["right"] for row in found.rows) / len(found.rows)
    value, interval = with_interval(found)["accuracy"]
    assert value == pytest.approx(right)
    assert interval == pytest.approx(wilson_interval(right, len(found.rows)))
    assert sum(n for _, _, n in reliability_of(found.data)) == found.count
    assert coverage_of(found.data)[-1][0] == 1.0
    matrix = confusion_of(found.data, nothing="none", others="{count} others")
    assert matrix is not None
    assert sum(n for _, _, n in matrix.cells) == found.count
    assert sum(scores["support"] for scores in label_scores(found.data).values()) == found.count
    assert (several_folder / "reports" / found.page).is_file()
    assert sum(kind["count"] for kind in found.mistakes["kinds"].values()) == round((1 - right) * len(found.rows))
    curves = curves_of(history_of(several_folder, info))
    assert {"train_loss", "valid_loss"} == set(curves["loss"])
    assert "label accuracy" in curves["score"]


def test_numbers_and_entities_keep_their_rows_too(several_folder: Path) -> None:
    info = described(several_folder)
    stars = measured(several_folder, info, "valid", "stars")
    errors = [abs(row["answer"] - row["gold"]) for row in stars.rows]
    value, interval = with_interval(stars)["mae"]
    assert value == pytest.approx(np.mean(errors), rel=1e-3)
    assert interval is not None
    assert interval[0] < value < interval[1]
    spans = measured(several_folder, info, "valid", "entities")
    assert all(isinstance(row["gold"], list) for row in spans.rows)
    marks = [m for kind in spans.mistakes["kinds"].values() for one in kind["worst"] for m in one["marks"]]
    texts = [one["text"] for kind in spans.mistakes["kinds"].values() for one in kind["worst"]]
    assert not texts or marks


def test_a_folder_without_reports_leaves_places_empty(tmp_path: Path) -> None:
    info = {"schema": {"targets": [{"name": "y", "task": "classification"}]}}
    assert splits_of(tmp_path, info) == []
    found = measured(tmp_path, info, "valid", "y")
    assert (found.metrics, found.rows, found.page, found.count) == ({}, [], "", None)
    assert confusion_of(found.data, nothing="", others="") is None
    assert reliability_of(found.data) == coverage_of(found.data) == []
    assert label_scores(found.data) == {}


@pytest.mark.parametrize("content", ["", "[]", "{", '{"metrics": 3, "classes": []}', '{"reliability": {"count": [1]}}'])
def test_damaged_reports_are_as_if_they_were_not_there(tmp_path: Path, content: str) -> None:
    info = {"schema": {"targets": [{"name": "y", "task": "classification"}]}, "metrics": {"valid": {"y": {"f1": 0.5}}}}
    (tmp_path / "reports").mkdir()
    for name in ("valid.json", "valid-mistakes.json", "valid-rows.jsonl", "history.json"):
        (tmp_path / "reports" / name).write_text(content)
    found = measured(tmp_path, info, "valid", "y")
    assert found.metrics == {"f1": 0.5}
    assert found.rows == []
    assert confusion_of(found.data, nothing="", others="") is None
    assert reliability_of(found.data) == []
    assert history_of(tmp_path, info) == []


def test_rows_that_were_measured_later_are_found_by_their_file(tmp_path: Path) -> None:
    info = {"schema": {"targets": [{"name": "y", "task": "classification"}]}, "metrics": {"valid": {"y": {"f1": 0.5}}}}
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "march.json").write_text('{"metrics": {"accuracy": 0.25}}')
    assert splits_of(tmp_path, info) == ["valid", "march"]
    assert measured(tmp_path, info, "march", "y").metrics == {"accuracy": 0.25}


def test_of_five_thousand_labels_the_most_confused_are_shown_and_none_is_lost() -> None:
    rng = np.random.default_rng(0)
    gold = [f"label {i % 5000}" for i in range(20_000)]
    answers = [one if rng.random() < 0.9 else f"label {rng.integers(5000)}" for one in gold]
    answers[:30], gold[:30] = ["label 7"] * 30, ["label 4"] * 30
    told = classification_report(gold, answers).to_dict()
    assert "matrix" not in told["confusion"]
    assert len(json.dumps(told["confusion"])) < 1_000_000
    found = confusion_of({"classes": told}, nothing="", others="{count} others")
    assert found is not None
    assert found.classes == 5000
    assert len(found.names) == 21
    assert found.names[-1] == "4,980 others"
    assert {"label 4", "label 7"} <= set(found.names)
    assert found.pairs[0][:3] == ("label 4", "label 7", 30)
    assert sum(n for _, _, n in found.cells) == 20_000


def test_a_matrix_of_boxes_has_a_place_for_nothing() -> None:
    data = {"confusion": {"labels": ["car"], "matrix": [[3, 1], [2, 0]]}}
    found = confusion_of(data, nothing="nothing", others="")
    assert found is not None
    assert found.names == ["car", "nothing"]
    assert found.pairs[0] == ("nothing", "car", 2, 1.0)
