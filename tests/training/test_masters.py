"""A model's weights stand in memory once, and what is saved are those in use, in float32."""

from __future__ import annotations

import gc
import shutil

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import VALID, train

from polydetr import Predictor
from polydetr.inference.writing import WritingWarning

SIZE = {"model": {"embed_dim": 128, "num_layers": 2}}


def held_bytes() -> int:
    """What the process's tensors hold, each storage once (layouts for prediction, which are no weights, left out)."""
    gc.collect()
    found = [o for o in gc.get_objects() if type(o) in (torch.Tensor, torch.nn.Parameter) and o.layout == torch.strided]
    return sum({s.data_ptr(): s.nbytes() for s in (t.untyped_storage() for t in found)}.values())


def fit(out=None, precision="fp32", **given) -> Predictor:
    settings = {**SIZE, "training": {"precision": precision, "ema_decay": 0.9}}
    return train(out, settings=settings, epochs=1, **given)


def in_bf16(predictor: Predictor) -> bool:
    return next(predictor._engine.runner.model.parameters()).dtype == torch.bfloat16


@pytest.mark.parametrize(("precision", "share"), [("fp32", 1.0), ("bf16", 0.5)])
def test_after_saving_the_weights_stand_in_memory_once(tmp_path, precision, share):
    before = held_bytes()
    fitted = fit(tmp_path / "model", precision)
    held = held_bytes() - before
    whole = sum(t.nbytes for t in load_file(tmp_path / "model" / "model.safetensors").values())
    assert share * whole <= held < 1.2 * share * whole

    before = held_bytes()
    loaded = Predictor.load(tmp_path / "model", precision=precision)  # type: ignore[arg-type]
    assert held_bytes() - before < 1.2 * share * whole
    assert in_bf16(loaded) == in_bf16(fitted) == (precision == "bf16")


def test_an_unsaved_model_keeps_exact_values_only_of_what_is_rounded(tmp_path):
    before = held_bytes()
    fitted = fit(precision="bf16")
    held = held_bytes() - before
    fitted.save(tmp_path / "model")
    saved = load_file(tmp_path / "model" / "model.safetensors")
    whole = sum(t.nbytes for t in saved.values())
    assert 1.5 * whole <= held < 1.7 * whole
    assert all(t.dtype == torch.float32 for t in saved.values())
    exact = [name for name, t in saved.items() if not torch.equal(t, t.bfloat16().float())]
    assert len(exact) > len(saved) / 2, "they were to be the masters, not what they were rounded to"
    del saved
    assert held_bytes() - before < 0.6 * whole


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_saving_writes_the_weights_in_use_whatever_has_become_of_the_folder(tmp_path, precision):
    fit(tmp_path / "model", precision)
    saved = load_file(tmp_path / "model" / "model.safetensors")
    expected = {name: t.clone() for name, t in saved.items()}
    loaded = Predictor.load(tmp_path / "model", precision=precision)
    answers = loaded.predict_proba(VALID)
    fit(tmp_path / "model", precision, seed=1, overwrite=True)  # another model in its place
    with pytest.warns(WritingWarning, match="no longer holds the model"):
        loaded.save(tmp_path / "copy")
    shutil.rmtree(tmp_path / "model")
    loaded.save(tmp_path / "again")
    for folder in (tmp_path / "copy", tmp_path / "again"):
        found = load_file(folder / "model.safetensors")
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)
    assert Predictor.load(tmp_path / "again", precision=precision).predict_proba(VALID) == answers
