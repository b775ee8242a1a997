"""Few rows over a pretrained backbone: chosen by itself, cross-validated, nothing held out, unlabelled rows."""

from __future__ import annotations

import json
import os
import signal
from itertools import permutations
from unittest.mock import ANY

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import BAD, GOOD, Watched, labels_of_classes, write_encoder
from typer.testing import CliRunner

from polydetr import Predictor
from polydetr.cli.app import app
from polydetr.config.loading import load_config
from polydetr.errors import ConfigError, Interrupted, ModelFolderError, SaveError
from polydetr.metrics.calibration import wilson_interval
from polydetr.model.build import build_model
from polydetr.schema.infer import infer_schema
from polydetr.training import few_rows
from polydetr.training.encode import Splits
from polydetr.training.few_rows import MOST_PER_CLASS, MOST_ROWS, has_few_rows, seconds_for
from polydetr.training.linear_head import Features, choose_head, stratified_folds
from polydetr.training.self_training import choose_self_training
from tiny_models import as_records


def scenes(count: int, *, start: int = 0) -> list[dict[str, str]]:
    """Rows that differ in the order of their words, and two classes that one word tells apart."""
    orders = list(permutations(["scene", "of", "a", "evening"]))
    rows = []
    for i in range(start, start + count):
        words, word = list(orders[i * 7 % 24]), (GOOD if i % 2 else BAD)[i % 3]
        words.insert(i % 5, word)
        rows.append({"text": " ".join(words), "label": "good" if i % 2 else "bad"})
    return rows


ROWS, VALID = scenes(40), scenes(20, start=40)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYDETR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("polydetr.training.few_rows._MARKS", (1, 2))


@pytest.fixture
def encoder(tmp_path):
    return str(write_encoder(tmp_path / "encoder"))


def fit(encoder: str, rows=ROWS, **given) -> tuple[Predictor, Watched]:
    watched = Watched()
    return Predictor.fit(rows, "label", backbone=encoder, display=watched, **given), watched


def test_it_is_chosen_by_itself_and_says_so(encoder, tmp_path):
    predictor, watched = fit(encoder, out=tmp_path / "out", test=scenes(10, start=50))
    (note,) = [note for note in watched.notes if note.startswith("few rows: by cross-validation")]
    assert "training.few_rows: false" in note
    assert predictor.info["rows"]["train"] == 40, "no row is lost to a hold-out"
    assert predictor.info["training"]["cross_validated"]
    assert [entry["epoch"] for entry in watched.entries] == [0, 1, 2]
    loaded = Predictor.load(tmp_path / "out")
    assert loaded.predict(VALID) == predictor.predict(VALID)
    assert sum(answer["label"] == row["label"] for answer, row in zip(loaded.predict(VALID), VALID, strict=True)) >= 14
    assert not (tmp_path / "out.checkpoint").exists()


def test_scores_are_of_rows_not_seen_and_have_an_interval(encoder, tmp_path):
    rng = np.random.default_rng(0)
    noise = [{**row, "label": str(rng.choice(["good", "bad"]))} for row in scenes(40)]
    predictor, _ = fit(encoder, noise, out=tmp_path / "out")
    metrics = predictor.metrics["valid"]["label"]
    answered = [answer["label"] == row["label"] for answer, row in zip(predictor.predict(noise), noise, strict=True)]
    assert metrics["accuracy"] < 0.75, "labels drawn at random cannot be known"
    assert metrics["accuracy"] <= np.mean(answered) + 0.1
    assert (metrics["accuracy_low"], metrics["accuracy_high"]) == wilson_interval(metrics["accuracy"], 40)
    assert "95 % interval" in predictor.tables["valid"]["label interval"]
    assert "of 40 rows" in (tmp_path / "out/reports/valid-interval.txt").read_text()


def test_the_same_seed_gives_the_same_model(encoder, tmp_path):
    for name in ("a", "b"):
        fit(encoder, out=tmp_path / name)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


def test_rows_to_measure_by_that_were_given_are_only_that(encoder):
    predictor, watched = fit(encoder, valid=VALID)
    assert predictor.info["rows"] == {"train": 40, "valid": 20, "test": 0, "rejected": 0}
    assert not predictor.info["training"]["cross_validated"]
    metrics = predictor.metrics["valid"]["label"]
    assert (metrics["accuracy_low"], metrics["accuracy_high"]) == wilson_interval(metrics["accuracy"], 20)
    assert not any("nothing is held out in the end" in note for note in watched.notes)


@pytest.mark.parametrize(
    ("given", "few"),
    [
        ({}, True),
        ({"epochs": 3}, False),
        ({"training": {"few_rows": False}}, False),
        ({"epochs": 3, "training": {"few_rows": True}}, True),
        ({"training": {"freeze_backbones": True}}, False),
        ({"training": {"freeze_layers": 1}}, False),
        ({"group": "text"}, False),
    ],
)
def test_settings_that_say_how_to_train_are_followed(encoder, given, few):
    config = load_config(given, target={"label": "classification"}, backbone=encoder)
    schema = infer_schema(ROWS, targets=config.target, inputs=config.inputs)
    assembly = build_model(config, schema, as_records(ROWS), notify=lambda message: None)
    assert has_few_rows(config, assembly, Splits(as_records(ROWS), [])) == few
    assert has_few_rows(config, assembly, Splits(as_records(scenes(MOST_ROWS)), [])) == few
    many = as_records(scenes(MOST_ROWS + 1))
    assert has_few_rows(config, assembly, Splits(many, [])) == (few and "few_rows" in given.get("training", {}))


@pytest.mark.parametrize(("given", "few"), [({}, False), ({"training": {"few_rows": True}}, True)])
def test_beside_a_table_its_additive_model_learns_more_from_few_rows(encoder, given, few):
    rows = [{**row, "size": float(i)} for i, row in enumerate(ROWS)]
    config = load_config(given, target={"label": "classification"}, backbone=encoder)
    schema = infer_schema(rows, targets=config.target, inputs=config.inputs)
    assembly = build_model(config, schema, as_records(rows), notify=lambda message: None)
    assert assembly.model.additive
    assert has_few_rows(config, assembly, Splits(as_records(rows), [])) == few


def test_groups_that_are_kept_together_are_no_rows_to_deal_into_folds(encoder):
    rows = [{**row, "day": i // 4} for i, row in enumerate(ROWS)]
    with pytest.raises(ConfigError, match=r"few_rows = true beside group = 'day': .* Leave out one of the two"):
        fit(encoder, rows, group="day", settings={"training": {"few_rows": True}})


def test_settings_that_are_not_used_are_named(encoder):
    training = {"lr": 1e-5, "label_smoothing": 0.1, "precision": "fp32"}
    settings = {"training": training, "tasks": {"label": {"metric": "macro_f1"}}}
    named = "not used here: training.lr, training.label_smoothing, tasks.label.metric (training.few_rows: false uses"
    for given, count in ((settings, 1), ({}, 0)):
        _, watched = fit(encoder, settings=given)
        assert len([note for note in watched.notes if named in note]) == count
        assert len([note for note in watched.notes if "not used here" in note]) == count
        assert not any("epochs" in note for note in watched.notes if note.startswith("preset")), "others are made"


def test_a_long_text_counts_as_much_as_a_short_one(encoder, monkeypatch):
    weights = []
    choose = few_rows.choose_head

    def chosen(folded, labels, *given, **more):
        weights.extend(labels.weights)
        return choose(folded, labels, *given, **more)

    monkeypatch.setattr(few_rows, "choose_head", chosen)
    fit(encoder, [{**row, "text": f"{row['text']} " * (40 if i % 4 else 1)} for i, row in enumerate(ROWS)])
    assert set(weights) == {1.0}


def test_many_classes_may_have_more_rows_and_more_rows_per_class_get_less_time():
    assert seconds_for(77 * MOST_PER_CLASS, 77) == seconds_for(8, 2) > seconds_for(MOST_ROWS, 2)


@pytest.mark.parametrize(
    ("passes", "epochs", "rows"), [(16, [0, 1, 2], {40}), (5, [0, 1, 2], {10, 40}), (0, [0], {40})]
)
def test_less_time_tries_fewer_folds_then_one_then_the_frozen_features(encoder, monkeypatch, passes, epochs, rows):
    def start(clock):
        clock.of_a_pass, clock.limit, clock._began = 1.0, float(passes), clock._now()

    monkeypatch.setattr("polydetr.training.few_watch.Clock.took_a_pass", lambda clock: None)
    monkeypatch.setattr("polydetr.training.few_watch.Clock.start", start)
    predictor, watched = fit(encoder)
    assert [entry["epoch"] for entry in watched.entries] == epochs
    accuracy = predictor.metrics["valid"]["label"]["accuracy"]
    (measured,) = (int(line.split("of ")[1].split()[0]) for line in [predictor.tables["valid"]["label interval"]])
    assert measured in rows
    assert (predictor.info["training"]["best_step"] == 0) <= (measured == 40)
    note = next(note for note in watched.notes if note.startswith("few rows"))
    assert ("10 rows held out" in note) == (measured == 10)
    assert 0.4 < accuracy <= 1.0


def test_what_was_tuned_once_is_what_answers(encoder, monkeypatch):
    """Held out once, of rows that tuning helps with: the weights kept are those that were measured."""
    monkeypatch.setattr("polydetr.training.few_rows._FOLDS", ())
    monkeypatch.setattr("polydetr.training.few_rows._MARKS_OF_ONE", (8, 16))
    predictor, watched = fit(encoder)
    best = predictor.info["training"]["best_step"]
    assert best > 0, "tuning was to help"
    entry = next(entry for entry in watched.entries if entry["step"] == best)
    measured = predictor.metrics["valid"]["label"]["accuracy"]
    assert measured == pytest.approx(entry["metrics"]["label"]["accuracy"])
    answers = predictor.predict(VALID)
    right = np.mean([answer["label"] == row["label"] for answer, row in zip(answers, VALID, strict=True)])
    assert right > 0.8


def test_losses_and_evaluations_are_told_at_steps_that_count_up(encoder):
    told: list[int] = []
    watched = Watched(lambda info: told.append(info.step))
    told_of = watched.evaluation
    watched.evaluation = lambda entry: (told.append(entry["step"]), told_of(entry))  # type: ignore[method-assign]
    predictor = Predictor.fit(ROWS, "label", backbone=encoder, display=watched)
    training, history = predictor.info["training"], predictor.info["history"]
    assert told == sorted(told), "dashboards draw over steps"
    assert len(watched.losses) >= 4, "each fold makes a step per epoch at least"
    assert all(loss == loss for loss in watched.losses)
    assert [entry["step"] for entry in history] == [entry["step"] for entry in watched.entries]
    assert training["best_step"] in [entry["step"] for entry in history]
    assert not any("still getting better" in note for note in watched.notes), "how long it is was chosen"


def test_it_computes_in_the_precision_asked_for_and_keeps_float32(encoder, tmp_path):
    predictor, _ = fit(encoder, out=tmp_path / "out", settings={"training": {"precision": "bf16"}})
    assert predictor.info["training"]["precision"] == "bf16"
    weights = load_file(tmp_path / "out/model.safetensors")
    head = next(w for name, w in weights.items() if name.startswith("heads.") and name.endswith("output.weight"))
    assert head.dtype == torch.float32
    assert not torch.equal(head, head.bfloat16().float()), "the regression is kept as it was found"
    assert Predictor.load(tmp_path / "out", precision="bf16").predict(VALID) == predictor.predict(VALID)


def stop_at(step: int) -> Watched:
    def at_step(info):
        if info.step == step:
            os.kill(os.getpid(), signal.SIGINT)

    return Watched(at_step)


def test_a_stopped_run_goes_on_with_the_folds_that_are_done(encoder, tmp_path):
    fit(encoder, out=tmp_path / "whole")
    with pytest.raises(Interrupted, match=r"stopped after 1 of 4 folds, which are kept in '.*out\.check.*--resume"):
        Predictor.fit(ROWS, "label", backbone=encoder, display=stop_at(3), out=tmp_path / "out")
    rest = Watched()
    Predictor.fit(ROWS, "label", backbone=encoder, display=rest, out=tmp_path / "out", resume=True)
    whole, found = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "out"))
    assert all(torch.equal(whole[name], found[name]) for name in whole)
    assert [entry["epoch"] for entry in rest.entries] == [0, 1, 2]
    assert not (tmp_path / "out.checkpoint").exists()


def test_what_was_trained_is_saved_without_training_again(encoder, tmp_path, monkeypatch):
    whole, _ = fit(encoder, out=tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("polydetr.model.folder.save_folder", _no_space)
        with pytest.raises(SaveError, match=r"--resume \(resume=True\) saves it without training again"):
            fit(encoder, out=tmp_path / "out")
    monkeypatch.setattr("polydetr.training.few_run.train_few_rows", lambda *given, **more: pytest.fail("again"))
    found, watched = fit(encoder, out=tmp_path / "out", resume=True)
    assert watched.losses == []
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("whole", "out")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert found.metrics == whole.metrics
    assert found.info["history"] == [entry | {"seconds": ANY} for entry in whole.info["history"]]
    assert not (tmp_path / "out.checkpoint").exists()


def _no_space(*given, **more):
    raise SaveError("the disk is full.", hint="Make room.")


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"settings": {"training": {"few_rows": False, "patience": 0}}, "epochs": 9}, {}),
        ({}, {"settings": {"training": {"few_rows": False, "patience": 0}}, "epochs": 9}),
        ({"unlabelled": [{"text": "a scene"}]}, {"unlabelled": [{"text": "an evening"}]}),
    ],
    ids=["of steps", "of folds", "other unlabelled rows"],
)
def test_another_run_is_not_gone_on_with(encoder, tmp_path, monkeypatch, first, then):
    monkeypatch.setattr("polydetr.training.loop.CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(Interrupted, match="kept in"):
        Predictor.fit(ROWS, "label", backbone=encoder, display=stop_at(3), out=tmp_path / "out", **first)
    with pytest.raises(ModelFolderError, match="made with another configuration, other data"):
        fit(encoder, out=tmp_path / "out", resume=True, **then)


def test_a_run_stopped_in_its_first_fold_keeps_nothing(encoder, tmp_path):
    with pytest.raises(Interrupted, match="nothing is kept"):
        Predictor.fit(ROWS, "label", backbone=encoder, display=stop_at(1), out=tmp_path / "out")
    assert not (tmp_path / "out.checkpoint").exists()


def test_copies_of_a_row_do_not_answer_one_another(encoder):
    rng = np.random.default_rng(1)
    drawn = [{**row, "label": str(rng.choice(["x", "y"]))} for row in ROWS]
    predictor, _ = fit(encoder, [row for row in drawn for _ in range(2)])
    assert predictor.metrics["valid"]["label"]["accuracy"] < 0.8


def test_several_labels(encoder):
    rows = [{**row, "label": [row["label"], "film"]} for row in ROWS]
    predictor, watched = fit(encoder, rows)
    assert any(note.startswith("few rows") for note in watched.notes)
    assert predictor.metrics["valid"]["label"]["accuracy"] > 0.7
    assert predictor.predict(rows[:2])[0]["label"] == rows[0]["label"]


def test_pictures(tmp_path):
    hf = pytest.importorskip("transformers")
    torch.manual_seed(1)
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    hf.AutoModel.from_config(hf.ViTConfig(image_size=32, patch_size=8, **sizes)).save_pretrained(tmp_path / "vit")
    rng = np.random.default_rng(0)
    shades = [(40, "dark"), (200, "light")] * 12
    rows = [
        {"photo": rng.integers(shade, shade + 40, (32, 32, 3)).astype(np.uint8), "label": label}
        for shade, label in shades
    ]
    predictor, watched = fit(str(tmp_path / "vit"), rows, settings={"image": {"size": 32}})
    assert any(note.startswith("few rows") for note in watched.notes)
    assert predictor.metrics["valid"]["label"]["accuracy"] == 1.0


def test_a_row_without_a_label_and_one_that_cannot_be_read(encoder):
    rows = [*ROWS, {"text": "a scene", "label": None}, {"text": ["no", {"text": 1}], "label": "good"}]
    predictor, watched = fit(encoder, rows, settings={"on_error": "skip"})
    assert predictor.info["rows"]["train"] == 41
    assert predictor.info["rows"]["rejected"] == 1
    assert any("1 rows are left out" in note for note in watched.notes)
    assert "of 40 rows" in predictor.tables["valid"]["label interval"]


# -- unlabelled rows ---------------------------------------------------------------------------------------------------


def blobs(count: int, seed: int, *, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Two classes along one of forty axes."""
    rng, numbers = np.random.default_rng(seed), np.arange(count) % 2
    features = spread * rng.normal(size=(count, 40))
    features[:, 0] += np.where(numbers, 2.0, -2.0)
    return features, numbers


def test_unlabelled_rows_are_used_where_held_out_rows_are_answered_better():
    features, numbers = blobs(16, 0, spread=0.9)
    more, _ = blobs(600, 1, spread=0.9)
    labels, folded = labels_of_classes(numbers, 2), [Features(features, more=more)] * 4
    folds = stratified_folds(labels, 4)
    chosen = choose_head(folded, labels, folds)
    found = choose_self_training(folded, labels, folds, chosen)
    assert found is not None
    assert found.chosen.loss < chosen.loss
    head, count = found.fit(folded[0], labels)
    tests, gold = blobs(2000, 2, spread=0.9)
    alone = chosen.recipe.fit(folded[0], labels)
    assert 100 < count <= 600
    assert (head.logits(tests).argmax(1) == gold).mean() > (alone.logits(tests).argmax(1) == gold).mean()


def test_answers_that_are_not_right_often_enough_become_no_labels():
    features, numbers = blobs(24, 0, spread=1.0)
    random = np.random.default_rng(5).permutation(numbers)
    labels, folded = labels_of_classes(random, 2), [Features(features, more=features)] * 4
    folds = stratified_folds(labels, 4)
    assert choose_self_training(folded, labels, folds, choose_head(folded, labels, folds)) is None


def test_the_command_line_takes_a_file_of_unlabelled_rows(encoder, tmp_path):
    files = {"rows": ROWS, "more": [{"text": row["text"]} for row in scenes(30, start=200)]}
    for name, rows in files.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    call = ["train", str(tmp_path / "rows.jsonl"), "--unlabelled", str(tmp_path / "more.jsonl"), "--target", "label"]
    result = CliRunner().invoke(app, [*call, "--backbone", encoder, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    said = result.stderr
    assert "unlabelled rows became training rows" in said or "unlabelled rows were left aside" in said
    config = json.loads((tmp_path / "out/polydetr.json").read_text())["config"]
    assert config["unlabelled"] == "more.jsonl", "the folder does not tell where the file lay"


def test_unlabelled_rows_of_another_run_are_said_to_be_left_aside(encoder):
    _, watched = fit(encoder, unlabelled=[{"text": "a warm evening"}], epochs=1)
    assert any("the 1 unlabelled rows are left aside" in note for note in watched.notes)
