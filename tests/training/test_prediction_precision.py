"""In which numbers a trained model answers: 8-bit integers only where they are faster and as good on the validation
rows.
"""

from __future__ import annotations

import pytest
from tiny_runs import VALID, Watched, train, write_encoder

from polydetr import Predictor
from polydetr.backbones.bert import BertEncoder
from polydetr.errors import ConfigError
from polydetr.model import precision
from polydetr.nn.cpu import int8
from polydetr.nn.cpu.linear import Linear
from polydetr.training import finish

pytestmark = pytest.mark.skipif(not int8.computes_int8(), reason="this CPU sums no products of bytes")


@pytest.fixture(autouse=True)
def gain(monkeypatch, tmp_path):
    """What the machine gains is set, not measured; the function returned changes it."""
    monkeypatch.setenv("POLYDETR_CACHE", str(tmp_path / "cache"))

    def gains(factor):
        monkeypatch.setattr(precision, "int8_speedup", lambda other: factor)

    gains(2.0)
    return gains


def in_int8(predictor):
    encoders = [m for m in predictor._engine.runner.model.modules() if isinstance(m, BertEncoder)]
    layers = [m for encoder in encoders for m in encoder.modules() if isinstance(m, Linear)]
    return all(m._packed and isinstance(m._packed[0], int8.Int8Weight) for m in layers) and all(
        m._packed[1] == m.weight._version for m in layers
    )


def run(tmp_path, wanted="auto"):
    shown = Watched()
    settings = {"training": {"precision": wanted, "head_start": False}}
    backbone = str(write_encoder(tmp_path / "encoder"))
    return train(tmp_path / "out", backbone=backbone, display=shown, settings=settings, epochs=0.2), shown.notes


def test_what_was_proved_is_recorded_and_loaded(tmp_path, gain):
    found, notes = run(tmp_path)
    assert in_int8(found)
    record = found.info["prediction"]
    assert record["precision"] == "int8"
    assert record["rows"] == len(VALID)
    assert record["after"] == pytest.approx(record["before"], abs=precision.INT8_TOLERANCE)
    assert any(note.startswith("prediction: int8 (8-bit integers measured 2.0 times") for note in notes)
    loaded = Predictor.load(tmp_path / "out")
    assert in_int8(loaded)
    assert loaded.predict_proba(VALID) == found.predict_proba(VALID)
    exact = Predictor.load(tmp_path / "out", precision="fp32")
    assert not in_int8(exact)
    for ours, theirs in zip(loaded.predict_proba(VALID), exact.predict_proba(VALID), strict=True):
        assert ours["label"] == pytest.approx(theirs["label"], abs=0.05)
        assert ours != theirs


def test_a_machine_that_gains_nothing_answers_as_the_model_was_trained(tmp_path, gain, monkeypatch):
    run(tmp_path)
    gain(1.0)
    assert not in_int8(Predictor.load(tmp_path / "out"))
    assert in_int8(Predictor.load(tmp_path / "out", precision="int8"))
    monkeypatch.setattr("polydetr.model.precision.computes_int8", lambda: False)
    with pytest.raises(ConfigError, match="'int8' cannot be had: this machine"):
        Predictor.load(tmp_path / "out", precision="int8")
    again, _ = run(tmp_path / "again")
    assert again.info["prediction"] == {"precision": again.info["training"]["precision"]}


def test_a_format_that_was_asked_for_is_kept(tmp_path):
    found, _ = run(tmp_path, "fp32")
    assert not in_int8(found)
    assert found.info["prediction"] == {"precision": "fp32"}


@pytest.mark.parametrize("worse", ["metric", "probabilities"])
def test_other_answers_are_refused_and_the_model_is_as_before(tmp_path, gain, monkeypatch, worse):
    exact, calls = finish.measure_precision, []

    def answers(engine, rows):
        metrics, sure = exact(engine, rows)
        calls.append(sure)
        if len(calls) == 2 and worse == "metric":
            metrics = {t: m - 2 * precision.INT8_TOLERANCE for t, m in metrics.items()}
        return metrics, sure + 2 * precision.INT8_SHIFT * (len(calls) == 2 and worse == "probabilities")

    monkeypatch.setattr(finish, "measure_precision", answers)
    found, notes = run(tmp_path)
    assert len(calls) == 2
    assert (calls[0] != calls[1]).any()  # the second time in int8
    assert not in_int8(found)
    assert any("but on the validation rows metrics differ by" in note for note in notes)
    assert not in_int8(Predictor.load(tmp_path / "out"))
    gain(1.0)
    plain, _ = run(tmp_path / "plain")
    assert found.predict_proba(VALID) == plain.predict_proba(VALID)
    assert found.metrics == plain.metrics
