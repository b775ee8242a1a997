"""Pretrained text encoders: a known name, a local folder, or a Hugging Face id → tokenizer, shape and weights.

Nothing here runs code that came with weights: only ``config.json``, ``tokenizer.json`` and safetensors are read, and
``trust_remote_code`` is always False.

A backbone that lower-cases its input has ``cased`` False: its tokenizer does it, so callers pass text as it is and
offsets still count characters of the original string. For names of people and places prefer a cased one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from polydetr.core import plugs
from polydetr.core.files import save_text
from polydetr.errors import COPY_AGAIN, BackboneError, ModelFolderError
from polydetr.specs.folders import (
    MOST_LAYERS,
    SavedFields,
    find_backbone,
    load_fields,
    read_config,
    read_tokenizer,
    save_fields,
    weight_files,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from polydetr.fetch.wheels import Report

_FILE = "backbone.json"
_FIELDS = ("name", "config", "cls_id", "sep_id", "pad_id", "unk_id", "hidden_dim", "max_positions", "cased",
           "num_layers")  # fmt: skip


@dataclass(frozen=True, eq=False)
class TextSpec:
    """A text encoder as far as its texts must know it, and where its pretrained weights lie.

    ``config`` is JSON: ``config["architecture"]`` is ``"bert"`` (``config["encoder"]`` holds the arguments of
    :class:`polydetr.backbones.bert.BertEncoder`) or ``"transformers"`` (``config["hf_config"]``, and the number of the
    first token's position, ``config["position_offset"]``). ``tokenizer`` neither truncates nor pads; encode with
    ``add_special_tokens=False`` and put ``cls_id`` and ``sep_id`` around the ids. ``max_positions`` is the longest
    window in tokens, those two included. ``source`` is where the pretrained weights lie; None for one restored from a
    model folder.
    """

    name: str
    config: dict[str, Any]
    tokenizer: Tokenizer
    cls_id: int
    sep_id: int
    pad_id: int
    unk_id: int
    hidden_dim: int
    max_positions: int
    cased: bool
    num_layers: int
    source: Path | None = None

    @property
    def vocab_size(self) -> int | None:
        """How many token ids the encoder knows; None where only transformers can tell."""
        sizes = self.config.get("encoder") or self.config.get("hf_config") or {}
        size = sizes.get("vocab_size")
        return size if isinstance(size, int) else None

    def save(self, folder: str | Path) -> None:
        """Writes ``backbone.json`` and ``tokenizer.json``: all that :meth:`from_folder` needs, without the weights."""
        save_fields(self, _FIELDS, Path(folder) / _FILE)
        save_text(Path(folder) / "tokenizer.json", self.tokenizer.to_str())

    @staticmethod
    def from_folder(folder: str | Path) -> TextSpec:
        """Restores what :meth:`save` wrote; raises :class:`ModelFolderError` where a file is missing, broken or too
        new.
        """
        fields = load_fields(_FIELDS, Path(folder) / _FILE, _Saved)
        try:
            tokenizer = read_tokenizer(Path(folder))
        except BackboneError as error:
            raise ModelFolderError(error.message, hint=COPY_AGAIN) from error
        spec = TextSpec(tokenizer=tokenizer, **fields)
        if spec.vocab_size is not None and tokenizer.get_vocab_size() > spec.vocab_size:
            raise ModelFolderError(
                f"{folder}: the tokenizer has {tokenizer.get_vocab_size()} entries, the encoder {spec.vocab_size}.",
                hint=COPY_AGAIN,
            )
        return spec


class _Encoder(BaseModel):
    """The sizes of a ``backbones.bert.BertEncoder``."""

    model_config = ConfigDict(defer_build=True, extra="forbid", strict=True, allow_inf_nan=False)

    vocab_size: int = Field(ge=1)
    hidden_dim: int = Field(ge=1)
    num_layers: int = Field(ge=0, le=MOST_LAYERS)
    num_heads: int = Field(ge=1)
    ffn_dim: int = Field(ge=1)
    max_positions: int = Field(ge=1)
    num_segments: int = Field(default=2, ge=1)
    norm_eps: float = Field(default=1e-12, ge=0)
    position_offset: int = Field(default=0, ge=0)
    activation: str = "gelu"


class _Bert(BaseModel, defer_build=True):
    architecture: Literal["bert"]
    encoder: _Encoder


class _Transformers(BaseModel, defer_build=True):
    architecture: Literal["transformers"]
    hf_config: dict[str, Any]
    position_offset: int = Field(default=0, ge=0)


class _Saved(SavedFields):
    config: _Bert | _Transformers = Field(discriminator="architecture")
    cls_id: int = Field(ge=0)
    sep_id: int = Field(ge=0)
    pad_id: int = Field(ge=0)
    unk_id: int = Field(ge=0)
    max_positions: int = Field(ge=1)
    cased: bool

    @model_validator(mode="after")
    def _agrees(self) -> _Saved:
        if isinstance(self.config, _Transformers):
            return self
        sizes = self.config.encoder
        if (self.hidden_dim, self.num_layers) != (sizes.hidden_dim, sizes.num_layers):
            raise ValueError("hidden_dim and num_layers are others than the encoder's")
        if self.max_positions > sizes.max_positions - sizes.position_offset:
            raise ValueError("max_positions is more than the encoder has")
        if max(self.cls_id, self.sep_id, self.pad_id, self.unk_id) >= sizes.vocab_size:
            raise ValueError("a special token is none of the encoder's vocabulary")
        return self


def load_text_spec(name: str, *, report: Report | None = None) -> TextSpec:
    """A text backbone by name, folder or Hugging Face id, see :func:`polydetr.specs.folders.find_backbone`.

    ``report`` takes lines of progress. Raises :class:`BackboneError` where it cannot be had, or something in its folder
    is missing or not safetensors.
    """
    folder = find_backbone(name, "text", report=report)
    weight_files(folder)  # refuse a folder without usable weights now, not after an hour of preparing data
    hf_config = read_config(folder)
    tokenizer = read_tokenizer(folder)
    special = _special_ids(folder, tokenizer)
    config, hidden_dim, num_layers, max_positions = _describe(hf_config, special["pad_id"])
    size = hf_config.get("vocab_size")
    if isinstance(size, int) and tokenizer.get_vocab_size() > size:
        raise BackboneError(
            f"{folder}: the tokenizer has {tokenizer.get_vocab_size()} entries, the encoder only {size}.",
            hint="Take config.json and tokenizer.json from the same model.",
        )
    return TextSpec(
        name=name,
        config=config,
        tokenizer=tokenizer,
        hidden_dim=hidden_dim,
        max_positions=max_positions,
        cased=_is_cased(tokenizer),
        num_layers=num_layers,
        source=folder,
        **special,
    )


_BERT_LIKE = {"bert": False, "roberta": True, "xlm-roberta": True, "camembert": True, "electra": False}
"""``model_type`` → whether its positions begin after the padding id (RoBERTa's habit) and not at 0."""
_BERT_ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")


def _describe(hf: Mapping[str, Any], pad_id: int) -> tuple[dict[str, Any], int, int, int]:
    """(config, hidden_dim, num_layers, max_positions) from Hugging Face's ``config.json``."""
    kind = hf.get("model_type")
    plain = (
        kind in _BERT_LIKE
        and hf.get("position_embedding_type", "absolute") == "absolute"
        and hf.get("hidden_act", "gelu") in _BERT_ACTIVATIONS
        and hf.get("embedding_size", hf.get("hidden_size")) == hf.get("hidden_size")  # small ELECTRAs project theirs
        and not hf.get("is_decoder", False)
    )
    try:
        if not plain:
            return _describe_other(hf)
        offset = int(hf.get("pad_token_id", pad_id)) + 1 if _BERT_LIKE[str(kind)] else 0
        encoder = {
            "vocab_size": hf["vocab_size"],
            "hidden_dim": hf["hidden_size"],
            "num_layers": hf["num_hidden_layers"],
            "num_heads": hf["num_attention_heads"],
            "ffn_dim": hf["intermediate_size"],
            "max_positions": hf["max_position_embeddings"],
            "num_segments": hf.get("type_vocab_size", 2),
            "norm_eps": hf.get("layer_norm_eps", 1e-12),
            "position_offset": offset,
            "activation": hf.get("hidden_act", "gelu"),
        }
    except KeyError as error:
        raise BackboneError(
            f"config.json of this {kind!r} model lacks {error}.", hint="Copy the whole folder again."
        ) from None
    config = {"architecture": "bert", "encoder": encoder}
    return config, encoder["hidden_dim"], encoder["num_layers"], encoder["max_positions"] - offset


def _describe_other(hf: Mapping[str, Any]) -> tuple[dict[str, Any], int, int, int]:
    kept = {key: value for key, value in hf.items() if key != "auto_map"}  # auto_map points at remote code
    if "model_type" not in kept:
        raise BackboneError(
            "config.json names no model_type.", hint="Expected the config.json of a transformers model."
        )
    describe = plugs.load("polydetr.backbones.wrapped:describe")  # transformers knows, and needs torch
    hidden_dim, num_layers, max_positions, offset = describe(kept)
    config = {"architecture": "transformers", "hf_config": kept, "position_offset": offset}
    return config, hidden_dim, num_layers, max_positions


_SPECIAL = {
    "cls_id": ("cls_token", ("[CLS]", "<s>", "<cls>")),
    "sep_id": ("sep_token", ("[SEP]", "</s>", "<sep>")),
    "pad_id": ("pad_token", ("[PAD]", "<pad>")),
    "unk_id": ("unk_token", ("[UNK]", "<unk>")),
}


def _special_ids(folder: Path, tokenizer: Tokenizer) -> dict[str, int]:
    """Ids of the special tokens that the folder's own files name, else of those with the usual names."""
    named: dict[str, Any] = {}
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        try:
            named |= json.loads((folder / file).read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError):
            continue
    ids = {}
    for field, (key, usual) in _SPECIAL.items():
        entry = named.get(key)
        token = entry.get("content") if isinstance(entry, dict) else entry
        tokens = (token, *usual) if isinstance(token, str) else usual
        known = [i for i in map(tokenizer.token_to_id, tokens) if i is not None]
        if not known:
            raise BackboneError(
                f"{folder}: the tokenizer has no {key} (looked for {', '.join(usual)}).",
                hint="Choose an encoder model (BERT-like); a decoder's tokenizer has no such tokens.",
            )
        ids[field] = known[0]
    return ids


def _is_cased(tokenizer: Tokenizer) -> bool:
    """Whether the normalizer keeps capitals: tried out, so that any composition of normalizers is judged rightly."""
    return tokenizer.normalizer is None or "A" in tokenizer.normalizer.normalize_str("Aa")
