"""Pretrained backbones, exported: the published weights of the catalog, those of transformers, published DETRs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polydetr import Predictor
from polydetr.inference.model import LoadedModel
from task_pairs import assert_alike, save_model

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
hf = pytest.importorskip("transformers")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::polydetr.inference.model.MeasureWarning"),  # nothing was learned
]

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "amber", "birch", "cobalt", "dune", "ember", "fern", "##s"]
TINY = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
SIZES = {**TINY, "vocab_size": len(WORDS)}
RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16}


def texts(longest: int) -> list[dict[str, Any]]:
    words = np.random.default_rng(0)
    return [
        {"text": " ".join(words.choice(WORDS[4:10], words.integers(2, longest))), "y": "ab"[i % 2], "z": float(i)}
        for i in range(24)
    ]


def images(side: int, *, boxes: bool = False) -> list[dict[str, Any]]:
    pixels = np.random.default_rng(0)
    found = [{"box": [2, 2, 20, 30], "label": "kettle"}]
    return [
        {"photo": pixels.integers(0, 256, (side, side + i, 3), np.uint8), "y": found if boxes else "ab"[i % 2]}
        for i in range(6)
    ]


def check(folder: Path, rows: list[dict[str, Any]]) -> None:
    torch_model = Predictor.load(folder / "model", precision="fp32")
    assert torch_model.export(folder / "exported").largest_difference < 1e-4
    onnx_model = LoadedModel.load(folder / "exported")
    assert_alike(onnx_model.predictions(rows), torch_model.predictions(rows))
    assert_alike(onnx_model.predictions(rows[:1]), torch_model.predictions(rows[:1]))
    assert_alike(onnx_model.evaluate(rows), torch_model.evaluate(rows), within=1e-3)


@pytest.mark.network
def test_minilm_reads_texts(tmp_path: Path) -> None:
    """Through its own 512 positions, and beyond them in windows."""
    rows = [*texts(60), {"text": "the amber dunes " * 300, "y": "a", "z": 1.0}]
    save_model(
        rows, {"y": "classification", "z": "regression"}, {"text": "text"}, {}, tmp_path / "model", backbone="minilm"
    )
    check(tmp_path, rows)


@pytest.mark.network
@pytest.mark.parametrize("task", ["classification", "detection"])
def test_mobilenet_reads_images(task: str, tmp_path: Path) -> None:
    rows = images(96, boxes=task == "detection")
    settings = {"image": {"size": 160}}
    save_model(rows, {"y": task}, {"photo": "image"}, settings, tmp_path / "model", backbone="mobilenet-v2")
    check(tmp_path, rows)


@pytest.mark.parametrize("kind", ["distilbert", "deberta", "modernbert", "mpnet", "roberta", "roberta-silu"])
def test_text_encoders_of_transformers(kind: str, tmp_path: Path) -> None:
    special = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    config = {
        "distilbert": lambda: hf.DistilBertConfig(vocab_size=len(WORDS), dim=24, n_layers=2, n_heads=3, hidden_dim=40),
        "deberta": lambda: hf.DebertaV2Config(
            **SIZES,
            max_position_embeddings=64,
            relative_attention=True,
            pos_att_type=["p2c", "c2p"],
            position_buckets=16,
        ),
        "modernbert": lambda: hf.ModernBertConfig(**SIZES, **special),
        "mpnet": lambda: hf.MPNetConfig(**SIZES, max_position_embeddings=20),
        "roberta": lambda: hf.RobertaConfig(**SIZES, max_position_embeddings=20, type_vocab_size=1),
        "roberta-silu": lambda: hf.RobertaConfig(
            **SIZES, max_position_embeddings=20, type_vocab_size=1, hidden_act="silu"
        ),
    }[kind]()
    hub = tmp_path / "hub"
    hub.mkdir()
    torch.manual_seed(7)
    hf.AutoModel.from_config(config).save_pretrained(hub)
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.save(str(hub / "tokenizer.json"))
    rows = [{**row, "title": row["text"][:9]} for row in texts(30)]
    settings = {"text": {"max_tokens": 16, "overlap": 4}}
    targets, inputs = {"y": "classification", "z": "regression"}, {"title": "text", "text": "text"}
    save_model(rows, targets, inputs, settings, tmp_path / "model", backbone=str(hub))
    check(tmp_path, rows)


@pytest.mark.parametrize("kind", ["vit", "swin", "resnet"])
def test_image_encoders_of_transformers(kind: str, tmp_path: Path) -> None:
    config = {
        "vit": lambda: hf.ViTConfig(**TINY, image_size=32, patch_size=8),
        "swin": lambda: hf.SwinConfig(
            embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=2, image_size=32, patch_size=4
        ),
        "resnet": lambda: hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1]),
    }[kind]()
    torch.manual_seed(1)
    hf.AutoModel.from_config(config).save_pretrained(tmp_path / "hub")
    rows, settings = images(40), {"image": {"size": 64}}
    targets, inputs = {"y": "classification"}, {"photo": "image"}
    save_model(rows, targets, inputs, settings, tmp_path / "model", backbone=str(tmp_path / "hub"))
    check(tmp_path, rows)


def test_a_published_detr_as_it_is(tmp_path: Path) -> None:
    from tiny_detr import reference

    reference().save_pretrained(tmp_path / "hub")
    torch_model = Predictor.from_checkpoint(tmp_path / "hub", tmp_path / "model", size=96, threshold=0.0)
    assert torch_model.export(tmp_path / "exported").largest_difference < 1e-4
    rows = [{"image": row["photo"]} for row in images(80)]
    found = LoadedModel.load(tmp_path / "exported").predictions(rows)
    assert len(found[0]["objects"].value) > 3
    assert_alike(found, Predictor.load(tmp_path / "model", precision="fp32").predictions(rows), within=1e-3)
