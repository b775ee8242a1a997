"""The confidence contract from training to asking: what rests on which rows, what is saved, what is withheld."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import film_rows
from typer.testing import CliRunner

from polydetr import LoadedModel, Options, Predictor
from polydetr.cli import app
from polydetr.errors import InputError
from polydetr.training.encode import MIN_PARTED, MeasuredRows

SETTINGS = {"model": {"embed_dim": 16, "num_layers": 1, "num_heads": 2}, "text": {"vocab_size": 200},
            "training": {"precision": "fp32", "batch_tokens": 256}}  # fmt: skip


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Films with a label that is wrong in one row of five, and a number that follows it."""
    return [
        {**row, "label": "other" if i % 5 == seed % 5 else row["label"], "stars": float(i % 7)}
        for i, row in enumerate(film_rows(count))
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYDETR_CACHE", str(tmp_path_factory.mktemp("cache")))
        out = tmp_path_factory.mktemp("run") / "model"
        Predictor.fit(
            rows(80), {"label": "classification", "stars": "regression"}, valid=rows(60, 1), test=rows(40, 2), out=out,
            backbone="none", epochs=3, settings=SETTINGS,
        )  # fmt: skip
        return out


def test_calibration_rests_on_rows_that_did_not_choose_the_weights(folder: Path) -> None:
    saved = {task["target"]: task for task in json.loads((folder / "polydetr.json").read_text())["tasks"].values()}
    calibration = saved["label"]["calibration"]
    assert calibration["apart"] is True
    assert calibration["rows"] == 30 == len(calibration["right"])
    assert saved["stars"]["half_width"] > 0


def test_a_chosen_half_and_a_calibrating_half_share_no_row() -> None:
    class Document:
        def __init__(self, number: int) -> None:
            self.records = [number] * (1 + number % 2)

    def measured(count: int) -> MeasuredRows:
        return MeasuredRows([Document(i) for i in range(count)], {})  # type: ignore[misc]

    parted = measured(MIN_PARTED + 1)
    rested = [r for r, here in zip(parted.records, parted.calibrating, strict=True) if here]
    assert set(map(int, rested)).isdisjoint(map(int, parted.choosing.records))  # type: ignore[arg-type, call-overload]
    few = measured(MIN_PARTED - 1)
    assert few.choosing is few
    assert few.calibrating.all()


def test_answers_are_withheld_with_the_best_guess_beside(folder: Path) -> None:
    model = LoadedModel.load(folder)
    asked = rows(30, 3)
    plain = list(model.stream(asked))
    assert not any("abstained" in answer for answer in plain)
    assert all(set(answer["interval"]) == {"stars"} for answer in plain)
    middle = sorted(answer["probability"]["label"] for answer in plain)[15]
    withheld = list(model.answer(asked, options=Options(min_confidence=middle)))
    assert [a.predictions["label"].abstained for a in withheld] == [
        answer["probability"]["label"] < middle for answer in plain
    ]
    assert [a.predictions["label"].value for a in withheld] == [answer["prediction"]["label"] for answer in plain]
    shown = [a.to_dict() for a in withheld]
    assert {a["abstained"] for a in shown if "abstained" in a} == {True}
    assert {tuple(a["abstained_targets"]) for a in shown if "abstained" in a} == {("label",)}
    chosen = model.thresholds(0.9)["label"]
    by_accuracy = list(model.answer(asked, options=Options(accuracy=0.9)))
    assert [a.predictions["label"].abstained for a in by_accuracy] == [
        answer["probability"]["label"] < chosen.threshold for answer in plain
    ]


@pytest.mark.parametrize("wrong", [{"min_confidence": 1.5}, {"accuracy": -0.1}])
def test_what_is_no_probability_is_refused(folder: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        list(LoadedModel.load(folder).answer(rows(1), options=Options(**wrong)))


def test_evaluation_shows_coverage_and_the_run_drew_it(folder: Path, tmp_path: Path) -> None:
    evaluation = LoadedModel.load(folder).evaluation(rows(40, 2))
    assert {"accuracy_at_50", "accuracy_at_70", "accuracy_at_90", "aurc", "ece"} <= evaluation["label"].metrics.keys()
    assert {"interval_coverage", "interval_width"} <= evaluation["stars"].metrics.keys()
    assert "coverage" in evaluation["label"].tables
    risk = evaluation["label"].data["coverage_risk"]
    assert risk["risk"][-1] == pytest.approx(1 - evaluation["label"].metrics["accuracy"], abs=1e-6)
    assert (folder / "reports" / "valid-label-coverage.png").exists()
    assert (folder / "reports" / "test-label-coverage.txt").exists()


@pytest.mark.usefixtures("drawn_pictures")
def test_the_command_line_withholds_and_says_what_that_costs(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows(20, 2)))
    run = CliRunner().invoke(app, ["predict", str(folder), str(data), "--min-confidence", "1"])
    assert run.exit_code == 0
    assert all(json.loads(line)["abstained"] is True for line in run.stdout.splitlines())
    run = CliRunner().invoke(app, ["predict", str(folder), str(data), "--accuracy", "0.9"])
    assert "'label'" in run.stderr
    assert "answers to validation rows" in run.stderr
    run = CliRunner().invoke(app, ["evaluate", str(folder), str(data), "--out", str(tmp_path / "plots")])
    assert run.exit_code == 0
    assert (tmp_path / "plots" / f"{data.stem}-label-coverage.png").stat().st_size > 5000
