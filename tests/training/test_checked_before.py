"""What would end a run later ends it before its first step; what fails after the training costs no model."""

from __future__ import annotations

import csv
import warnings

import pytest
from tiny_runs import TRAIN, VALID, Watched, film_rows, train

from polydetr import LoadedModel, Predictor
from polydetr.errors import PolydetrError, SchemaError
from polydetr.inference.model import MeasureWarning


def renamed(rows, **names):
    return [{names.get(key, key): value for key, value in row.items()} for row in rows]


def written(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


NO_LABELS = [{"text": row["text"]} for row in VALID]
EMPTY_LABELS = [{**row, "label": ""} for row in VALID]
REFUSED = {
    "another spelling": (
        renamed(VALID, text="Text"),
        r"no column 'text', which the model reads.*Did you mean 'Text'\?",
    ),
    "no labels": (NO_LABELS, r"no column 'label', the target .* Leave out {0} \(train --{0}\); .* predict\."),
    "other labels": (renamed(VALID, label="lable"), r"no column 'label'.*Did you mean 'lable'\?"),
    "empty labels": (EMPTY_LABELS, r"no row has a value for target 'label'.* Leave out {0} \(train --{0}\)"),
}


@pytest.mark.parametrize("split", ["valid", "test"])
@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("as_file", [True, False], ids=["file", "memory"])
def test_rows_to_measure_on_are_refused_before_the_first_step(tmp_path, split, kind, as_file):
    rows, message = REFUSED[kind]
    watched = Watched()
    path = written(tmp_path / "rows.csv", rows)
    place = "rows.csv: " if as_file else ""
    with pytest.raises(SchemaError, match=place + ".*" + message.format(split)) as caught:
        train(display=watched, **{"valid": VALID, split: path if as_file else rows})
    assert ("validation rows" if split == "valid" else "test rows") in str(caught.value)
    assert not watched.losses


def test_a_target_without_labels_in_the_measured_rows_is_not_measured(tmp_path):
    rows = [{**row, "stars": i % 5 if i < 20 else None} for i, row in enumerate(TRAIN)]
    watched = Watched()
    targets = {"label": "classification", "stars": "regression"}
    model = train(tmp_path / "model", train=rows, target=targets, valid=VALID, test=rows[:20], display=watched)
    assert "the validation rows have no value of 'stars': it is not measured there" in watched.notes
    assert set(model.metrics["valid"]) == {"label"}
    assert set(model.metrics["test"]) == {"label", "stars"}
    loaded = LoadedModel.load(tmp_path / "model")
    with pytest.warns(MeasureWarning, match="these rows have no value of 'stars': it is not measured there"):
        assert set(loaded.evaluate(VALID)) == {"label"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*is no better than")  # few rows, few steps
        assert set(loaded.evaluate(rows[:20])) == {"label", "stars"}
    with pytest.raises(SchemaError, match="there is no column 'label', the target to measure against"):
        loaded.evaluate(NO_LABELS)


@pytest.mark.parametrize("failing", ["calibrate", "measure", "_set_prediction"])
def test_what_fails_after_the_training_costs_no_model(tmp_path, monkeypatch, failing):
    def fails(*given, **more):
        raise KeyError("a label that nobody thought of")

    monkeypatch.setattr(f"polydetr.training.finish.{failing}", fails)
    out = tmp_path / "model"
    with pytest.raises(PolydetrError, match=r"training is done and the model is saved in .*KeyError.*--resume"):
        train(out, test=VALID)
    assert len(LoadedModel.load(out).predict(VALID)) == len(VALID)
    monkeypatch.undo()
    steps = Watched()
    again = train(out, test=VALID, resume=True, display=steps)
    assert not steps.losses
    assert set(again.metrics) == {"valid", "test"}


def test_a_report_that_fails_costs_no_model(tmp_path, monkeypatch):
    from polydetr.reports.evaluation import ReportWarning
    from polydetr.training import report

    def fails(*given, **more):
        raise ValueError("no such color")

    monkeypatch.setattr(report, "model_card", fails)
    monkeypatch.setattr(report, "learning_curve_png", fails)
    with pytest.warns(ReportWarning, match="could not be made") as found:
        train(tmp_path / "model")
    assert sorted(str(w.message).partition(" could")[0] for w in found) == ["README.md", "reports/learning_curve.png"]
    assert Predictor.load(tmp_path / "model").predict(film_rows(1))


def test_a_metric_is_looked_for_among_the_rows_that_choose_by_it(monkeypatch):
    asked = []

    def names(engine, rows):
        asked.append(len(rows.documents))
        return {"label": ["macro_f1"]}

    monkeypatch.setattr("polydetr.training.metric_names.metric_names", names)
    train(valid=film_rows(44, start=100), epochs=1, settings={"tasks": {"label": {"metric": "macro_f1"}}})
    assert asked == [22]
