"""What a run does: the same seed gives the same model, limits hold, the best weights win, parts stay frozen."""

from __future__ import annotations

import json
import threading
import time

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import TRAIN, VALID, Watched, film_rows, train, write_encoder

from polydetr import Predictor
from polydetr.errors import ConfigError, Interrupted, RowError, SaveError, SchemaError
from polydetr.training.adapters import add_adapters, plain_weights, remove_adapters
from polydetr.training.optimizer import learning_rate_factor


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYDETR_CACHE", str(tmp_path / "cache"))


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        train(tmp_path / name, seed=seed, epochs=1)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_a_run_leaves_the_smallest_floats_of_the_process_alone():
    train(epochs=0.1)
    assert float(torch.tensor(1e-40) * 1.0) > 0
    torch.set_flush_denormal(True)
    try:
        train(epochs=0.1)
        assert float(torch.tensor(1e-40) * 1.0) == 0
    finally:
        torch.set_flush_denormal(False)


def test_random_embeddings_learn_although_pretrained_ones_are_frozen(tmp_path):
    a = train(epochs=0.1).predict_proba([VALID[0]])
    b = train(epochs=8)
    assert b.metrics["valid"]["label"]["accuracy"] == 1.0
    assert a != b.predict_proba([VALID[0]])
    weights = b._engine.runner.model.state_dict()
    name = next(n for n in weights if n.endswith("embeddings.words.weight"))
    start = train(epochs=0.1, settings={"training": {"head_lr": 1e-9}})._engine.runner.model.state_dict()[name]
    assert not torch.allclose(weights[name].float(), start.float(), atol=1e-3)


def test_the_time_limit_holds_and_the_model_is_measured_and_saved(tmp_path):
    train(epochs=0.1)  # what is imported and measured once
    started = time.monotonic()
    steps = []
    found = train(tmp_path / "out", epochs=100_000, time_limit="3s", display=Watched(steps.append))
    assert all(0 < step.progress <= 1 and step.remaining_seconds >= 0 for step in steps)
    assert steps[-1].progress == 1
    training = found.info["training"]
    assert training["seconds"] < 3.5
    assert time.monotonic() - started < 15  # the figures of the report are drawn after the limit
    assert found.metrics["valid"]["label"]["accuracy"] > 0.5
    assert Predictor.load(tmp_path / "out").predict([VALID[0]])


def test_early_stopping_gives_back_the_best_weights(monkeypatch):
    """The score is made to peak at the second evaluation; the weights of that moment must come back."""
    import polydetr.training.loop as loop

    real, seen = loop.validate, []

    def peaked(engine, records, *, parts):
        result = real(engine, records)
        seen.append({n: t.detach().float().clone() for n, t in engine.runner.model.state_dict().items()})
        return loop.ValidScore([0.1, 0.9, 0.5, 0.5][len(seen) - 1], result.loss, result.evaluations)

    monkeypatch.setattr(loop, "validate", peaked)
    shown = Watched()
    settings = {"training": {"patience": 2, "precision": "fp32"}}
    found = train(display=shown, epochs=20, settings=settings)
    assert len(seen) == 4
    assert found.info["training"]["best_step"] == shown.entries[1]["step"]
    for name, tensor in found._engine.runner.model.state_dict().items():
        assert torch.equal(tensor, seen[1][name]), name
    assert not all(torch.equal(seen[1][n], seen[3][n]) for n in seen[1])


def test_evaluations_fall_evenly_and_tell_their_epoch():
    shown = Watched()
    train(display=shown, epochs=2, settings={"training": {"evaluations_per_epoch": 3}})
    assert len(shown.entries) == 6
    epochs = [entry["epoch"] for entry in shown.entries]
    assert epochs == sorted(epochs)
    assert epochs[2] == 1
    assert epochs[5] == 2


def test_class_weights_reach_the_loss():
    uneven = [row for i, row in enumerate(TRAIN) if row["label"] == "bad" or i % 6 == 1]
    plain, weighted = Watched(), Watched()
    train(train=uneven, display=plain, epochs=0.5)
    train(train=uneven, display=weighted, epochs=0.5, settings={"tasks": {"label": {"class_weights": "balanced"}}})
    assert plain.losses[0] != weighted.losses[0]


# -- frozen parts and adapters ------------------------------------------------------------------------------------


def learned(out, backbone) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The saved weights of the backbone, and the pretrained ones, under the same names."""
    from polydetr.backbones.text import weights
    from polydetr.specs.text import load_text_spec

    saved = {
        k.partition("backbone.")[2]: v for k, v in load_file(out / "model.safetensors").items() if "backbone." in k
    }
    return saved, weights(load_text_spec(str(backbone)))


def test_frozen_layers_stay_and_the_others_learn(tmp_path):
    backbone = write_encoder(tmp_path / "encoder")
    settings = {"training": {"freeze_layers": 1, "precision": "fp32", "head_start": False}}
    train(tmp_path / "out", backbone=str(backbone), settings=settings)
    saved, before = learned(tmp_path / "out", backbone)
    for name, tensor in before.items():
        frozen = name.startswith(("embeddings.", "layers.0."))
        assert torch.equal(saved[name], tensor) is frozen, name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_adapters_are_folded_into_plain_weights(tmp_path, precision):
    backbone = write_encoder(tmp_path / "encoder")
    settings = {"training": {"lora": {"rank": 2, "alpha": 4}, "precision": precision, "lr": 0.01, "head_start": False}}
    shown = Watched()
    found = train(tmp_path / "out", display=shown, backbone=str(backbone), settings=settings)
    assert any("adapters of rank 2 in 8 layers" in note for note in shown.notes)
    saved, before = learned(tmp_path / "out", backbone)
    assert set(saved) == set(before)
    for name, tensor in before.items():
        change = saved[name] - tensor
        adapted = name.startswith("layers.") and name.endswith(".weight") and "norm" not in name
        if adapted:
            assert change.abs().max() > 1e-4
            if precision == "fp32":  # the frozen part was rounded in bf16
                assert torch.linalg.matrix_rank(change, atol=1e-5) <= 2
        else:
            assert change.abs().max() <= (0.01 if precision == "bf16" else 0), name
    rows = [row["text"] for row in VALID]
    again = Predictor.load(tmp_path / "out", precision=precision)
    assert again.predict_proba(rows) == found.predict_proba(rows)


def test_a_stopped_run_with_adapters_resumes_to_the_bit(tmp_path):
    import os
    import signal

    def stop(info):
        if info.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    backbone = str(write_encoder(tmp_path / "encoder"))
    settings = {"training": {"lora": {"rank": 2}}}
    train(tmp_path / "whole", backbone=backbone, settings=settings)
    with pytest.raises(Interrupted):
        train(tmp_path / "out", display=Watched(stop), backbone=backbone, settings=settings)
    train(tmp_path / "out", backbone=backbone, settings=settings, resume=True)
    assert (tmp_path / "out/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_plain_weights_compute_what_the_adapters_do():
    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"backbone": torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Linear(7, 3))})
    add_adapters(model, rank=2, alpha=3.0)
    for adapter in model["backbone"]:
        torch.nn.init.normal_(adapter.up)
    x = torch.randn(4, 5)
    expected = model["backbone"](x)
    weights = plain_weights(model, model.state_dict())
    remove_adapters(model)
    model.load_state_dict(weights)
    torch.testing.assert_close(model["backbone"](x), expected)
    assert all(p.requires_grad for p in model.parameters())


def test_adapters_without_a_backbone_are_a_configuration_error():
    with pytest.raises(ConfigError, match=r"training\.lora\.rank = 4: there is no backbone layer to adapt"):
        train(settings={"training": {"lora": {"rank": 4}}})


# -- rows ---------------------------------------------------------------------------------------------------------


def test_rejected_rows_are_written_with_their_reason(tmp_path):
    bad = {"text": None, "label": "good"}
    shown = Watched()
    for _ in range(2):  # the second time from the cache of tokens
        shown = Watched()
        found = train(
            tmp_path / "out",
            display=shown,
            overwrite=True,
            train=[*TRAIN[:30], bad, *TRAIN[30:]],
            valid=[VALID[0], {"text": float("nan"), "label": "bad"}, *VALID[1:]],
            epochs=0.5,
            settings={"on_error": "skip"},
        )
        lines = [json.loads(line) for line in (tmp_path / "out/reports/rejected.jsonl").read_text().splitlines()]
        assert [(line["row"], line["column"]) for line in lines] == [(31, "text"), (2, "text")]
        assert all("text is missing" in line["reason"] for line in lines)
        assert lines[0]["content"] == bad
        assert any("2 rows are left out" in note for note in shown.notes)
        assert found.info["rows"] == {"train": 60, "valid": 20, "test": 0, "rejected": 2}
    with pytest.raises(RowError, match=r"row 31, column 'text': text is missing"):
        train(train=[*TRAIN[:30], bad, *TRAIN[30:]])


def test_rejected_rows_of_another_file_are_told_at_their_own_places(tmp_path):
    lines = [json.dumps(row) for row in [*TRAIN[:30], {"text": None, "label": "good"}, *TRAIN[30:]]]
    for name, above in (("first", []), ("second", [""])):  # the second time nothing but the places has changed
        (tmp_path / f"{name}.jsonl").write_text("\n".join([*above, *lines]))
        given = {"train": str(tmp_path / f"{name}.jsonl"), "epochs": 0.5, "settings": {"on_error": "skip"}}
        found = train(tmp_path / name, **given)
        entry = json.loads((tmp_path / name / "reports/rejected.jsonl").read_text().splitlines()[0])
        assert (entry["file"], entry["line"]) == (given["train"], 31 + len(above))
        assert found.info["rows"]["train"] == 60


def test_a_bad_validation_row_is_found_before_the_training():
    shown = Watched()
    with pytest.raises(RowError, match="row 21"):
        train(display=shown, valid=[*VALID, {"text": None, "label": "bad"}])
    assert not shown.losses


def test_a_label_that_cannot_be_read_is_rejected_too(tmp_path):
    rows = [{"text": row["text"], "stars": i % 5 + 0.5} for i, row in enumerate(TRAIN)]
    rows[7]["stars"] = "many"
    given = {"train": rows, "target": "stars:regression", "valid": rows[:5] + rows[8:20], "epochs": 0.5}
    with pytest.raises(RowError, match=r"row 8, column 'stars'.*'many'"):
        train(**given)
    train(tmp_path / "out", **given, settings={"on_error": "skip"})
    (line,) = (tmp_path / "out/reports/rejected.jsonl").read_text().splitlines()
    assert json.loads(line)["content"]["stars"] == "many"


def test_no_readable_row_is_one_error():
    with pytest.raises(SchemaError, match=r"no training row can be read|no column is left|no input column holds text"):
        train(
            train=[{"text": None, "label": x} for x in "abab"], settings={"on_error": "skip"}, inputs={"text": "text"}
        )


def test_labels_unseen_in_training_are_named_and_counted():
    shown = Watched()
    strange = [{"text": "a strange scene", "label": "odd"}] * 2
    train(display=shown, valid=[*VALID, *strange], test=[*film_rows(4), *strange[:1]], epochs=0.5)
    found = [note for note in shown.notes if "training never saw" in note]
    assert [("'odd' (2)" in note, "'odd' (1)" in note) for note in found] == [(True, False), (False, True)]
    assert "the valid rows" in found[0]
    assert "the test rows" in found[1]


def test_a_full_disk_at_the_end_keeps_what_was_trained(tmp_path, monkeypatch):
    def full(*args, **more):
        raise SaveError("cannot save the model: No space left on device.", hint="Free some disk space.")

    with monkeypatch.context() as patched:
        patched.setattr("polydetr.model.folder.save_folder", full)
        with pytest.raises(SaveError, match=r"No space left.*Free some disk space.*--resume.*without training again"):
            train(tmp_path / "out")
    shown = Watched()
    train(tmp_path / "out", display=shown, resume=True)
    assert not shown.losses
    assert Predictor.load(tmp_path / "out").predict([VALID[0]])


def test_a_run_in_a_thread_works(tmp_path):
    found = []
    worker = threading.Thread(target=lambda: found.append(train(tmp_path / "out", epochs=0.5)))
    worker.start()
    worker.join()
    assert found[0].metrics["valid"]["label"]["accuracy"] >= 0


def test_learning_rate_rises_then_falls():
    at = [learning_rate_factor(p, warmup=0.2, schedule="linear") for p in (0, 0.1, 0.2, 0.6, 1.0)]
    assert at == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert learning_rate_factor(0.6, warmup=0.2, schedule="cosine") == pytest.approx(0.5)
    assert learning_rate_factor(0.9, warmup=0.2, schedule="constant") == 1
    assert learning_rate_factor(7, warmup=0, schedule="linear") == 0
