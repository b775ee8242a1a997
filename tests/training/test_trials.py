"""A trial is a plain training over shared rows: encoded once, stopped early, and nothing is left of what failed."""

from __future__ import annotations

import gc
import json
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from tiny_runs import Watched, film_rows, write_encoder
from tiny_trials import NONE_HELD_OUT, study

from polydetr import Predictor
from polydetr.errors import Interrupted, PolydetrError
from polydetr.inference.folder import WEIGHTS
from polydetr.model.model import PolyModel
from polydetr.training import loop, shared_encodings
from polydetr.training.few_rows import MOST_ROWS
from polydetr.training.loop import Loop
from polydetr.training.objective import total_loss

PROCESS = Path("/proc/self")


@pytest.fixture
def counted(monkeypatch):
    """How often rows were encoded, and features computed."""
    counts = {"encode_rows": 0, "with_features": 0}

    def counting(name):
        real = getattr(shared_encodings, name)

        def call(*args, **given):
            counts[name] += 1
            return real(*args, **given)

        monkeypatch.setattr(shared_encodings, name, call)

    for name in counts:
        counting(name)
    return counts


def test_a_trial_is_a_plain_training(tmp_path):
    rows = study()
    found = rows.train({"training.weight_decay": 0.1}, out=tmp_path / "000")
    settings = {**rows.config.model_dump(include={"model", "training"}), "backbone": "none", "epochs": 2}
    settings["training"]["weight_decay"] = 0.1
    plain = Predictor.fit(
        NONE_HELD_OUT["train"], "label", valid=NONE_HELD_OUT["valid"], config=settings, out=tmp_path / "plain",
        display=Watched(),
    )  # fmt: skip
    assert (tmp_path / "000" / WEIGHTS).read_bytes() == (tmp_path / "plain" / WEIGHTS).read_bytes()
    best = next(e for e in plain.info["history"] if e["step"] == plain.info["training"]["best_step"])
    assert (found.score, found.metrics) == (best["score"], best["metrics"])
    assert found.curve == [(e["step"], e["score"]) for e in plain.info["history"]]
    assert Predictor.load(tmp_path / "000").metrics == plain.metrics
    assert rows.metric == "label accuracy"


def test_rows_are_encoded_once_for_settings_that_encode_them_alike(tmp_path, counted):
    rows = study()
    for number, settings in enumerate(
        ({}, {"training.head_lr": 1e-3}, {"model.num_layers": 2}, {"text.max_tokens": 8})
    ):
        rows.train(settings, out=tmp_path / str(number))
    assert counted["encode_rows"] == 2  # with windows of 8 tokens once more
    one, other = (Predictor.load(tmp_path / name).info["config"]["text"]["max_tokens"] for name in "03")
    assert (one, other) == (384, 8)


def test_features_of_a_frozen_backbone_are_computed_once(tmp_path, counted):
    encoder = str(write_encoder(tmp_path / "encoder"))
    rows = study(backbone=encoder, training={"freeze_backbones": True, "few_rows": False})
    scores = [rows.train({"training.head_lr": lr}, out=tmp_path / str(lr)).score for lr in (1e-3, 1e-2)]
    assert counted == {"encode_rows": 1, "with_features": 1}
    assert all(0 <= score <= 1 for score in scores)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_trials(tmp_path):
    tried = [{}, {"training.head_lr": 2e-3}, {"text.max_tokens": 8}]
    one, other = ([rows.train(s, out=tmp_path / str(i)) for i, s in enumerate(tried)] for rows in (study(), study()))
    assert [(t.score, t.metrics, t.curve) for t in one] == [(t.score, t.metrics, t.curve) for t in other]


def test_a_trial_that_is_stopped_leaves_nothing(tmp_path):
    entries = []

    def stop_at_the_second(entry):
        entries.append(entry)
        return len(entries) == 2

    display = Watched()
    found = study(epochs=4).train({}, out=tmp_path / "000", on_evaluation=stop_at_the_second, display=display)
    assert found.pruned
    assert len(display.losses) == found.steps == entries[1]["step"]  # not a step more
    assert [entry["progress"] for entry in entries] == [0.25, 0.5]
    assert found.score == max(entry["score"] for entry in entries)
    assert found.curve == [(entry["step"], entry["score"]) for entry in entries]
    assert list(tmp_path.glob("00*")) == []


def test_shares_of_the_run_are_alike_for_other_batches(tmp_path):
    """What a pruner compares: half of the budget is half of the rows learned from, in however many steps."""
    seen = {}
    for tokens in (64, 256):
        seen[tokens] = entries = []
        study().train({"training.batch_tokens": tokens}, out=tmp_path / "000", on_evaluation=partial(_keep, entries))
    assert [e["progress"] for e in seen[64]] == [e["progress"] for e in seen[256]] == [0.5, 1.0]
    assert seen[64][0]["step"] > seen[256][0]["step"]


def test_a_trial_whose_loss_is_no_number_says_so_and_leaves_nothing(tmp_path, monkeypatch):
    rows = study()
    with monkeypatch.context() as patched:
        patched.setattr(loop, "total_loss", lambda *args, **given: total_loss(*args, **given) * float("nan"))
        with pytest.raises(PolydetrError, match="the loss is not a number at step 1"):
            rows.train({}, out=tmp_path / "000")
    assert list(tmp_path.glob("00*")) == []
    assert rows.train({}, out=tmp_path / "001").score > 0.5  # the next one is none the worse


def test_a_score_that_is_no_number_fails_the_trial(tmp_path, monkeypatch):
    real = loop.validate
    monkeypatch.setattr(loop, "validate", lambda *args, **given: replace(real(*args, **given), score=float("nan")))
    with pytest.raises(PolydetrError, match="the score is not a number"):
        study().train({}, out=tmp_path / "000")
    assert list(tmp_path.glob("00*")) == []


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError, KeyboardInterrupt])
def test_whatever_ends_a_trial_leaves_nothing(tmp_path, monkeypatch, error):
    before = len(_models())  # of other tests
    rows, real, steps = study(), Loop._step, []

    def failing(self, *args, **given):
        steps.append(1)
        if len(steps) == 12:  # the best weights of the first evaluation are on disk
            raise error("no memory")
        return real(self, *args, **given)

    monkeypatch.setattr(Loop, "_step", failing)
    expected = Interrupted if error is KeyboardInterrupt else error
    with pytest.raises(expected) as caught:
        rows.train({}, out=tmp_path / "000")
    assert list(tmp_path.glob("00*")) == []
    gc.collect()
    assert len(_models()) == before, "the error that is kept keeps the model"
    assert caught.value is not None


def test_no_trial_sees_the_test_rows(tmp_path):
    class Untouched(list):
        def __iter__(self):
            raise AssertionError("a trial looked at the test rows")

        __getitem__ = __len__ = __iter__

    rows = study({**NONE_HELD_OUT, "test": film_rows(20, start=400)})
    rows.splits.test = Untouched()
    rows.train({}, out=tmp_path / "000")
    assert Predictor.load(tmp_path / "000").info["rows"]["test"] == 0


def test_a_trial_ends_within_its_seconds(tmp_path):
    rows = study(epochs=100_000)
    rows.train({}, out=tmp_path / "000", seconds=1.0)  # what is measured and imported once
    began = time.monotonic()
    found = rows.train({}, out=tmp_path / "001", seconds=2.0)
    assert time.monotonic() - began < 6
    assert found.steps > 10
    assert found.seconds == pytest.approx(time.monotonic() - began, abs=0.5)


def test_a_trial_with_a_time_limit_shows_how_long_rows_are_answered(tmp_path):
    rows = study({**NONE_HELD_OUT, "test": film_rows(600, start=300)})
    rows.train({}, out=tmp_path / "000")
    assert rows.seconds_to_compare() == 0.0
    rows.train({}, out=tmp_path / "001", seconds=20.0)
    assert 0 < rows.seconds_to_compare() < 20
    without = study(NONE_HELD_OUT)
    without._answering = rows._answering
    assert rows.seconds_to_compare() == pytest.approx((600 + 2 * 44) / (2 * 44) * without.seconds_to_compare())


@pytest.mark.skipif(not PROCESS.exists(), reason="the system does not tell")
@pytest.mark.slow
def test_trials_leave_no_models_threads_or_open_files_behind(tmp_path):
    before, rows = len(_models()), study()

    def after(count):
        for number in range(count):
            rows.train({"training.head_lr": 1e-3 * (1 + number)}, out=tmp_path / "same")
        gc.collect()
        return len(_models()), threading.active_count(), len(list((PROCESS / "fd").iterdir()))

    first = after(2)
    assert first[0] == before
    assert after(4) == first


@pytest.mark.slow
@pytest.mark.skipif(not PROCESS.exists(), reason="the system does not tell")
def test_memory_after_thirty_trials_is_that_after_three(tmp_path):
    rows, resident = study(draws=True), []
    for number in range(30):
        tried = {"training.head_lr": 1e-3 * (1 + number % 5), "text.max_tokens": (8, 16)[number % 2]}
        rows.train(tried, out=tmp_path / "same")
        resident.append(int((PROCESS / "statm").read_text().split()[1]))
    assert resident[-1] <= 1.05 * resident[2]


def test_only_the_best_trial_so_far_draws_figures(tmp_path):
    rows = study(draws=True)
    scores = [rows.train({"training.head_lr": lr}, out=tmp_path / str(lr)).score for lr in (5e-3, 1e-9)]
    assert scores[0] > scores[1]
    drawn = [(tmp_path / str(lr) / "reports" / "learning_curve.png").exists() for lr in (5e-3, 1e-9)]
    assert drawn == [True, False]


# -- few rows ---------------------------------------------------------------------------------------------------------


def test_few_rows_are_cross_validated_over_the_same_folds(tmp_path):
    notes: list[str] = []
    rows = study({"train": film_rows(60)}, notes)
    assert notes == ["60 rows are few: a trial's score is cross-validated over 4 folds, the same for all"]
    everything = {id(record) for record in rows.splits.given}
    held = [id(record) for fold in rows.folds for record in fold.held]
    assert len(held) == len(set(held)) >= 0.7 * len(everything)
    for fold in rows.folds:
        parts = [[id(record) for record in part] for part in (fold.train, fold.valid, fold.held)]
        assert sorted(key for part in parts for key in part) == sorted(everything)
        assert {record.row["label"] for record in fold.train} == {"good", "bad"}
    entries = []
    found = rows.train({}, out=tmp_path / "000", on_evaluation=partial(_keep, entries))
    assert [entry["progress"] for entry in entries] == [0.25, 0.5, 0.75, 1.0]
    kept = json.loads((tmp_path / "000" / "reports" / "cross_validation.json").read_text())
    assert kept["folds"] == 4
    assert (found.score, found.score) == (kept["score"], entries[-1]["score"])
    assert kept["judged"]["rows"] == len(held) // 2
    assert Predictor.load(tmp_path / "000").info["rows"]["train"] == len(rows.splits.train)  # the usual training


@pytest.mark.parametrize(("count", "folds"), [(MOST_ROWS, 4), (MOST_ROWS + 1, 0)])
def test_trials_are_cross_validated_where_one_of_them_may_be_trained_as_few_rows_are(count, folds):
    assert len(study({"train": film_rows(count)}).folds) == folds


def test_a_cross_validated_trial_is_stopped_after_a_fold(tmp_path):
    entries = []
    found = study({"train": film_rows(60)}).train(
        {}, out=tmp_path / "000", on_evaluation=lambda entry: _keep(entries, entry) or len(entries) == 2
    )
    assert found.pruned
    assert len(entries) == 2
    assert list(tmp_path.glob("00*")) == []


def test_few_rows_over_a_backbone_are_cross_validated_by_the_training_itself(tmp_path):
    rows = study({"train": film_rows(40)}, backbone=str(write_encoder(tmp_path / "encoder")), epochs=None)
    found = rows.train({}, out=tmp_path / "000")
    info = Predictor.load(tmp_path / "000").info
    assert info["training"]["cross_validated"]
    kept = json.loads((tmp_path / "000" / "reports" / "cross_validation.json").read_text())
    assert (found.score, kept["judged"]["rows"]) == (kept["score"], 20)
    assert found.metrics["label"]["accuracy"] == found.score


def _keep(entries, entry) -> bool:
    entries.append(entry)
    return False


def _models() -> list[PolyModel]:
    gc.collect()
    return [one for one in gc.get_objects() if type(one) is PolyModel]
