"""Rows, settings and a pretrained encoder small enough to train in a second."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from polydetr import Predictor
from polydetr.backbones.bert import BertEncoder, BertSizes
from polydetr.config.loading import merge
from polydetr.training.callbacks import Display
from polydetr.training.linear_head import Labels

GOOD, BAD = ("lovely", "warm", "bright"), ("dreary", "cold", "dull")
TINY: dict[str, Any] = {
    "model": {"embed_dim": 16, "num_layers": 1, "num_heads": 2, "dropout": 0.2},
    "training": {"batch_tokens": 64, "patience": 0, "head_lr": 5e-3},
}


def film_rows(count: int, *, start: int = 0) -> list[dict[str, Any]]:
    """Two classes that one word tells apart."""
    rows = []
    for i in range(start, start + count):
        word = (GOOD if i % 2 else BAD)[i % 3]
        rows.append({"text": f"scene {i % 11} of a {word} evening", "label": "good" if i % 2 else "bad"})
    return rows


TRAIN, VALID = film_rows(60), film_rows(20, start=100)


def labels_of_classes(numbers: np.ndarray, count: int) -> Labels:
    """One class number per row, out of ``count``."""
    return Labels(np.eye(count)[numbers], several=False, weights=np.ones(len(numbers)))


class Watched(Display):
    """Keeps what it is told; ``at_step`` is called after each step."""

    def __init__(self, at_step: Any = lambda info: None) -> None:
        self.notes: list[str] = []
        self.losses: list[float] = []
        self.entries: list[Mapping[str, Any]] = []
        self.at_step = at_step

    def note(self, message: str) -> None:
        self.notes.append(message)

    def step(self, info: Any) -> None:
        self.losses.append(info.loss)
        self.at_step(info)

    def evaluation(self, entry: Mapping[str, Any]) -> None:
        self.entries.append(entry)


def train(out: Path | None = None, *, display: Display | None = None, **given: Any) -> Predictor:
    """A run on the tiny rows; ``settings`` is laid over ``TINY``."""
    settings = merge(TINY, given.pop("settings", {}))
    arguments = {"train": TRAIN, "target": "label", "valid": VALID, "backbone": "none", "epochs": 2} | given
    return Predictor.fit(out=out, settings=settings, display=display or Watched(), **arguments)


def write_encoder(folder: Path) -> Path:
    """A folder as transformers saves a BERT: 2 layers of width 16, random weights."""
    from bert_checkpoints import hf_state_dict

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *GOOD, *BAD, "scene", "of", "a", "evening"]
    shape = {"vocab_size": len(words), "hidden_dim": 16, "num_layers": 2, "num_heads": 2, "ffn_dim": 24}
    torch.manual_seed(3)
    encoder = BertEncoder(BertSizes(**shape, max_positions=64))
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    folder.mkdir(parents=True)
    save_file(hf_state_dict(encoder.state_dict(), num_layers=2), folder / "model.safetensors")
    config = {
        "model_type": "bert",
        "vocab_size": len(words),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 64,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
    }
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
