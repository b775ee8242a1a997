"""Heads that begin as a logistic regression on pretrained features, and runs that never end below it."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_runs import TRAIN, Watched, film_rows, train, write_encoder

from polydetr.config.loading import load_config
from polydetr.core.examples import Example
from polydetr.errors import Interrupted
from polydetr.model.build import Assembly, build_model
from polydetr.schema.infer import infer_schema
from polydetr.training import head_start
from polydetr.training.head_start import heads_to_start, labels_of, pooled_features, set_head, start_heads
from polydetr.training.linear_head import fit_logistic
from tiny_models import as_records

THREE = [{**row, "label": row["text"].split()[4]} for row in film_rows(60)]
SEVERAL = [{**row, "label": [row["label"], row["text"].split()[4]]} for row in film_rows(60)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYDETR_CACHE", str(tmp_path / "cache"))


def assemble(tmp_path, rows, **settings) -> tuple[Assembly, list[Example]]:
    config = load_config(
        {"tasks": {"label": settings}}, target={"label": "classification"}, backbone=str(write_encoder(tmp_path / "e"))
    )
    schema = infer_schema(rows, targets=config.target, inputs=config.inputs)
    assembly = build_model(config, schema, as_records(rows), notify=lambda message: None)
    items = assembly.engine.encode(as_records(rows), with_targets=True)
    return assembly, [example for document in items for example in document.examples]


def logits_of(assembly: Assembly, examples: list[Example]) -> np.ndarray:
    found = assembly.runner.run(examples, ["label"], seed=0, numbers=range(len(examples)))
    return np.stack([outputs["label"]["logits"] for outputs in found])


@pytest.mark.parametrize("rows", [TRAIN, THREE, SEVERAL], ids=["two", "six", "several"])
def test_the_model_begins_with_the_logits_of_the_regression(tmp_path, rows):
    assembly, examples = assemble(tmp_path, rows)
    notes: list[str] = []
    assert start_heads(assembly, examples, seed=0, notify=notes.append)

    logits = logits_of(assembly, examples)
    head = assembly.model.head_of("label")
    known, labels = labels_of(head, "label", examples)
    assert len(known) == len(examples)
    weight, bias = (p.detach().double().numpy() for p in (head.output.weight, head.output.bias))
    np.testing.assert_allclose(pooled_features(assembly.runner, examples) @ weight.T + bias, logits, atol=1e-3)
    assert labels.right(logits).mean() == 1.0
    assert "begins as a logistic regression" in notes[0]


def test_a_set_head_has_the_logits_of_the_regression_to_the_last_digits(tmp_path):
    assembly, examples = assemble(tmp_path, THREE)
    head = heads_to_start(assembly)["label"]
    _, labels = labels_of(head, "label", examples)
    features = pooled_features(assembly.runner, examples)
    fitted = fit_logistic(features, labels, strength=0.3)
    set_head(head, fitted)
    expected = fitted.logits(features)
    np.testing.assert_allclose(logits_of(assembly, examples), expected, atol=1e-5 * np.abs(expected).max())


def test_classes_without_a_row_are_unlikely(tmp_path):
    assembly, examples = assemble(tmp_path, TRAIN, labels=["bad", "good", "unheard"])
    start_heads(assembly, examples, seed=0, notify=lambda message: None)
    assert not (logits_of(assembly, examples).argmax(1) == 2).any()


def test_rows_without_a_label_take_no_part(tmp_path):
    assembly, examples = assemble(tmp_path, [*TRAIN, *({**row, "label": None} for row in film_rows(9, start=70))])
    known, labels = labels_of(assembly.model.head_of("label"), "label", examples)
    assert known.tolist() == list(range(60))
    assert labels.y.sum(0).tolist() == [30, 30]


def test_the_windows_of_a_row_do_not_answer_one_another(tmp_path, monkeypatch):
    rows = [{**row, "text": f"{row['text']} " * (1, 18, 30)[i % 3]} for i, row in enumerate(TRAIN)]
    assembly, examples = assemble(tmp_path, rows)
    assert {round(1 / example.weight) for example in examples} == {1, 3, 5}
    dealt = []
    choose = head_start.choose_head

    def chosen(folded, labels, folds):
        dealt.extend(folds)
        return choose(folded, labels, folds)

    monkeypatch.setattr(head_start, "choose_head", chosen)
    start_heads(assembly, examples, seed=0, notify=lambda message: None)
    row_of = [number for number, row in enumerate(assembly.engine.encode(as_records(rows))) for _ in row.examples]
    drawn = np.random.default_rng(0).permutation(len(examples))  # the order in which they are dealt
    assert set(dealt) == {0, 1, 2, 3, 4}
    assert len({(row_of[i], fold) for i, fold in zip(drawn, dealt, strict=True)}) == len(rows)


def test_a_model_without_a_backbone_begins_at_random():
    watched = Watched()
    train(display=watched, epochs=1)
    assert watched.entries[0]["step"] > 0
    assert not any("logistic regression" in note for note in watched.notes)


def test_a_run_that_learns_nothing_more_ends_with_the_regression(tmp_path):
    watched = Watched()
    predictor = train(
        display=watched, backbone=str(write_encoder(tmp_path / "e")), epochs=2,
        settings={"training": {"head_lr": 30.0, "lr": 10.0}},
    )  # fmt: skip
    assert watched.entries[0]["step"] == 0
    assert watched.entries[0]["metrics"]["label"]["accuracy"] == 1.0
    assert predictor.info["training"]["best_step"] == 0
    assert predictor.metrics["valid"]["label"]["accuracy"] == 1.0


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path):
    import os
    import signal

    def at_step(info):
        if info.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    encoder = str(write_encoder(tmp_path / "e"))
    whole, rest = Watched(), Watched()
    train(tmp_path / "whole", display=whole, backbone=encoder)
    with pytest.raises(Interrupted):
        train(tmp_path / "out", display=Watched(at_step), backbone=encoder)
    train(tmp_path / "out", display=rest, backbone=encoder, resume=True)
    assert rest.losses == whole.losses[3:]
    assert rest.entries[-1]["valid_loss"] == whole.entries[-1]["valid_loss"]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "out")]
    assert weights[0] == weights[1]
