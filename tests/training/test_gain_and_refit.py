"""What one trial gains over another, on rows that chose nothing; and the kept settings trained again on all rows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_runs import Watched, film_rows, write_encoder
from tiny_trials import NONE_HELD_OUT, study

from polydetr import Predictor
from polydetr.errors import ModelFolderError
from polydetr.training import gain as gains
from polydetr.training import trial_folds
from polydetr.training.gain import gain
from polydetr.training.refit import refit


@pytest.fixture(scope="module")
def two_trials(tmp_path_factory):
    """A study, and the folders of a trial that learned nothing and of one that learned all there is to learn."""
    folder = tmp_path_factory.mktemp("trials")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYDETR_CACHE", str(folder / "cache"))
        rows = study(epochs=8)
        rows.train({"training.head_lr": 1e-9}, out=folder / "dull")
        rows.train({}, out=folder / "bright")
    return rows, folder / "dull", folder / "bright"


def test_the_gain_is_that_of_the_rows_that_chose_nothing(two_trials):
    rows, dull, bright = two_trials
    found = gain(dull, bright, rows)
    judged = rows.splits.valid[1::2]
    golds = [record.row["label"] for record in judged]
    answers = [Predictor.load(folder).predict([record.row for record in judged]) for folder in (dull, bright)]
    right = [np.array([a["label"] == gold for a, gold in zip(of, golds, strict=True)]) for of in answers]
    assert found.rows == len(judged) == 22
    assert found.difference == pytest.approx(right[1].mean() - right[0].mean())
    assert 0 < found.low <= found.difference <= found.high
    assert found.share_better > 0.95
    assert gain(dull, bright, rows) == found
    hurried = gain(dull, bright, rows, until=0.0)
    assert (hurried.difference, hurried.rows) == (found.difference, found.rows)
    assert hurried.low != found.low, "fewer draws"
    turned = gain(bright, dull, rows)
    assert (turned.difference, turned.low) == pytest.approx((-found.difference, -found.high))


def test_a_model_gains_nothing_over_itself(two_trials):
    rows, _, bright = two_trials
    assert vars(gain(bright, bright, rows)) == {"difference": 0, "low": 0, "high": 0, "rows": 22, "share_better": 0}


def test_rows_that_chose_the_weights_judge_nothing(tmp_path):
    rows = study({"train": film_rows(60), "valid": film_rows(20, start=100)})
    rows.train({}, out=tmp_path / "000")
    assert gain(tmp_path / "000", tmp_path / "000", rows) is None


def test_cross_validated_trials_are_judged_by_the_other_half_of_their_answers(tmp_path, monkeypatch):
    rows = study({"train": film_rows(84)}, epochs=3)
    for name, lr in (("dull", 1e-9), ("bright", 1e-2)):
        rows.train({"training.head_lr": lr}, out=tmp_path / name)
    monkeypatch.setattr(gains, "load_engine", lambda folder: pytest.fail("their answers are kept"))
    found = gain(tmp_path / "dull", tmp_path / "bright", rows)
    kept = [json.loads((tmp_path / n / "reports" / "cross_validation.json").read_text()) for n in ("dull", "bright")]
    assert found.rows == kept[0]["judged"]["rows"] == kept[1]["judged"]["rows"] > 30
    assert found.difference == kept[1]["judged"]["score"] - kept[0]["judged"]["score"] > 0
    assert 0 < found.low < found.high


def test_rows_that_one_of_two_models_has_learned_from_judge_neither(tmp_path, monkeypatch):
    monkeypatch.setattr(trial_folds, "FEW", 0)
    monkeypatch.setattr(trial_folds, "are_few", lambda rows, classes: False)  # so that no trial is cross-validated
    encoder = str(write_encoder(tmp_path / "encoder"))
    rows = study({"train": film_rows(60)}, backbone=encoder, epochs=None, training={"few_rows": None})
    assert not rows.folds
    rows.train({"training.few_rows": True}, out=tmp_path / "few")
    rows.train({"training.few_rows": False, "epochs": 0.2}, out=tmp_path / "usual")
    assert gain(tmp_path / "few", tmp_path / "usual", rows) is None
    assert gain(tmp_path / "usual", tmp_path / "few", rows) is None


def test_rows_that_are_matched_with_one_another_are_withheld_from_the_trials(tmp_path):
    """Of an embedding's validation rows none that a trial sees is left out when it chooses its weights."""
    pairs = [{"question": f"what of {i}", "answer": f"{i} it is"} for i in range(120)]
    parts = {"train": pairs[:60], "valid": pairs[60:]}
    rows = study(parts, target="answer", task="embedding", epochs=1, inputs={"question": "text"})
    assert len(rows.withheld) == 30
    for name, lr in (("000", 1e-3), ("001", 1e-2)):
        rows.train({"training.head_lr": lr}, out=tmp_path / name)
        assert Predictor.load(tmp_path / name).info["rows"]["valid"] == 30
    found = gain(tmp_path / "000", tmp_path / "001", rows)
    assert found.rows == 30
    assert found.low <= found.difference <= found.high


# -- refit ------------------------------------------------------------------------------------------------------------


def test_refit_learns_from_all_rows_for_as_many_steps_and_keeps_the_calibration(tmp_path):
    valid = [{**row, "text": row["text"].replace("scene", "zebra")} for row in NONE_HELD_OUT["valid"]]
    for row in valid[::7]:  # some answers are wrong, and too sure
        row["label"] = "good" if row["label"] == "bad" else "bad"
    rows = study({"train": film_rows(60), "valid": valid, "test": film_rows(20, start=400)}, epochs=8)
    rows.train({"training.head_lr": 4e-3}, out=tmp_path / "000")
    shown = Watched()
    assert refit({"training.head_lr": 4e-3}, tmp_path / "000", rows, out=tmp_path / "all", display=shown)
    before, after = Predictor.load(tmp_path / "000"), Predictor.load(tmp_path / "all")
    assert after.info["rows"] == {**before.info["rows"], "train": 104, "test": 20}
    assert after.info["training"]["steps"] == before.info["training"]["best_step"] == len(shown.losses)
    assert after.info["training"]["refit_rows"] == 104
    vocabularies = [(tmp_path / name / "tokenizer.json").read_text() for name in ("000", "all")]
    assert ["zebra" in vocabulary for vocabulary in vocabularies] == [False, True]
    tasks = [m._engine.tasks["label"] for m in (before, after)]
    assert tasks[0].temperature == tasks[1].temperature != 1.0
    assert tasks[0].calibration.to_dict() == tasks[1].calibration.to_dict()
    assert after.metrics["valid"] == before.metrics["valid"]
    assert after.metrics["test"]["label"]["accuracy"] > 0.9
    assert any("trained again on all 104 rows" in note for note in shown.notes)
    assert not shown.entries  # no row was left to measure by while it trained
    assert "It was trained on all 104 rows" in (tmp_path / "all" / "README.md").read_text()
    assert {p.name for p in (tmp_path / "all" / "reports").iterdir()} >= {"valid.json", "test.json", "history.json"}
    assert list(tmp_path.glob("*.checkpoint")) == []


def test_refit_stops_where_the_weights_were_best_on_the_same_schedule(tmp_path, monkeypatch):
    from polydetr.training import loop

    real, scores = loop.validate, iter([0.2, 0.9, 0.5, 0.4])
    with monkeypatch.context() as patched:

        def validate(*given, parts):
            return loop.ValidScore(next(scores), 1.0, real(*given).evaluations)

        patched.setattr(loop, "validate", validate)
        rows = study(epochs=4)
        rows.train({}, out=tmp_path / "000")
    info = Predictor.load(tmp_path / "000").info["training"]
    assert 2 * info["best_step"] == info["steps"]
    rates = []

    class Rates(Watched):
        def step(self, step):
            rates.append(step.learning_rate)
            super().step(step)

    refit({}, tmp_path / "000", rows, out=tmp_path / "all", display=Rates())
    assert len(rates) == info["best_step"]
    assert rates[-1] == pytest.approx(0.5 / 0.9 * 5e-3, rel=0.1)  # half of the way down from the peak


def test_rows_that_a_training_kept_all_of_are_not_trained_again(tmp_path):
    rows = study({"train": film_rows(40)}, backbone=str(write_encoder(tmp_path / "encoder")), epochs=None)
    rows.train({}, out=tmp_path / "000")
    shown = Watched()
    assert not refit({}, tmp_path / "000", rows, out=tmp_path / "all", display=shown)
    assert not (tmp_path / "all").exists()
    assert shown.notes == ["trained on all rows already: nothing was held out"]


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(ModelFolderError):
        refit({}, tmp_path / "none", study(NONE_HELD_OUT), out=tmp_path / "all")
