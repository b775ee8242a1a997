"""Who looks at whom: word by word where the model reads text alone, else how much of each modality the answer sees.

Attention rollout (Abnar and Zuidema 2020, arXiv 2005.00928): heads are averaged, half of every token stays itself
(the residual connection), and the layers are multiplied, R = Â_N … Â_1 with Â = (A + I) / 2. The normal path never
computes these tables: they are made here, from what enters each layer.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polydetr.backbones.bert import BertEncoder, BertLayer
from polydetr.embedders.text import TextEmbedder
from polydetr.embedders.text_subwords import of_positions, subwords_of_positions
from polydetr.explain.words import TokenWords
from polydetr.model.model import PolyModel
from polydetr.nn.batch import Batch, Embedded, TokenGroup


def attention_layers(model: PolyModel, batch: Batch) -> dict[str, list[Tensor]]:
    """Under "backbone" and "encoder", one (B, L, L) a layer, heads averaged, row = the token that looks. A part
    without layers is left out; so is a foreign backbone, whose inside is not known.
    """
    found: dict[str, list[Tensor]] = {}
    with torch.no_grad():
        embedded: dict[str, Embedded] = {}
        for name, group in batch.groups.items():
            embedder = model.embedders[name]
            if name == "text" and isinstance(embedder, TextEmbedder) and isinstance(embedder.backbone, BertEncoder):
                seen: list[Tensor] = []
                embedded[name] = _watched(embedder.backbone, seen, lambda e=embedder, g=group: e(g))
                found["backbone"] = [_between_positions(weights, group) for weights in seen]
            else:
                embedded[name] = embedder(group)
        _, weights = model.attend(embedded, need_weights=True)
    if weights is not None:
        found["encoder"] = [layer["text", "text"].mean(1) for layer in weights.layers]
    return {name: layers for name, layers in found.items() if layers}


def attention_by_modality(model: PolyModel, batch: Batch) -> dict[str, float]:
    """How the attention of the pooled answer is shared out among the modalities' tokens, on average over the windows:
    rollout through the shared encoder, from the pooled vector's own weights. Empty where the encoder has no layers.
    """
    with torch.no_grad():
        embedded = {name: model.embedders[name](group) for name, group in batch.groups.items()}
        _, weights = model.attend(embedded, need_weights=True)
    if weights is None or not weights.layers:
        return {}
    masks = {name: found.mask for name, found in embedded.items()}
    layers = [  # (B, ΣL, ΣL)
        torch.cat([torch.cat([layer[asker, answerer].mean(1) for answerer in masks], dim=2) for asker in masks], dim=1)
        for layer in weights.layers
    ]
    # Every group that is there has the same voice in the pooled vector, and every token in its group.
    real = torch.stack([mask.any(1) for mask in masks.values()], dim=1).sum(1).clamp(min=1)[:, None]
    voices = torch.cat([mask / mask.sum(1, keepdim=True).clamp(min=1) / real for mask in masks.values()], dim=1)
    received = (voices[:, None] @ rollout(layers))[:, 0].split([mask.shape[1] for mask in masks.values()], dim=1)
    shares = {name: float(part.sum(1).mean()) for name, part in zip(masks, received, strict=True)}
    total = sum(shares.values()) or 1.0
    return {name: share / total for name, share in shares.items()}


def _between_positions(weights: Tensor, group: TokenGroup) -> Tensor:
    """(B, P, P) between the subwords that a backbone read → (B, L, L) between positions, which share what their
    subword receives (``modalities.text_subwords``).
    """
    if "first_position" not in group.values:
        return weights
    subword, share = subwords_of_positions(group.values["first_position"], group.mask)
    return of_positions(of_positions(weights, subword).transpose(1, 2), subword).transpose(1, 2) * share[:, None]


def _watched(backbone: BertEncoder, seen: list[Tensor], run: Callable[[], Embedded]) -> Embedded:
    """Runs, and notes each layer's attention on the way: softmax(q kᵀ / √d) from the layer's own projection of its
    input.
    """
    here = threading.get_ident()

    def look(layer: nn.Module, inputs: tuple[Tensor, Tensor | None]) -> None:
        if threading.get_ident() != here or not isinstance(layer, BertLayer):
            return
        hidden, bias = inputs
        query, key, _ = layer.qkv(hidden).unflatten(-1, (3, layer.num_heads, -1)).unbind(2)  # (B, L, H, d)
        scores = torch.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(query.shape[-1])
        seen.append((scores if bias is None else scores + bias).softmax(-1).mean(1))

    handles = [layer.register_forward_pre_hook(look) for layer in backbone.layers]
    try:
        return run()
    finally:
        for handle in handles:
            handle.remove()


def rollout(layers: Sequence[Tensor]) -> Tensor:
    """(B, L, L) a layer, first layer first → (B, L, L). Rows that do not sum to 1 (other modalities took a share) are
    made to.
    """
    size = layers[0].shape[-1]
    same = torch.eye(size, dtype=layers[0].dtype, device=layers[0].device)
    result = same.expand_as(layers[0])
    for weights in layers:
        mixed = (weights + same) / 2
        result = (mixed / mixed.sum(-1, keepdim=True)) @ result
    return result


def attention_between_words(
    tables: Sequence[NDArray[np.floating]], windows: Sequence[TokenWords], count: int
) -> NDArray[np.float64]:
    """(L, L) a window → (words, words): what all tokens of a word receive, on average over the tokens of the word
    that looks.

    A word that several windows show looks out of the one with most context around it, as ``decode`` has it. Rows sum
    to less than 1:
    the rest goes to [CLS] and [SEP].
    """
    result = np.zeros((count, count))
    best = np.full(count, -1, dtype=np.int64)
    for table, tokens in zip(tables, windows, strict=True):
        share = np.zeros((len(table), count))
        np.add.at(share, (tokens.token, tokens.word), tokens.share)
        size = share.sum(0)
        between = (share / np.where(size > 0, size, 1)).T @ np.asarray(table, np.float64) @ share
        owned = [word for word, margin in tokens.margin.items() if margin > best[word]]
        result[owned] = between[owned]
        best[owned] = [tokens.margin[word] for word in owned]
    return result
