"""Attention: between words where the model reads text alone, else how the answer's is shared among the modalities.

Attention rollout (Abnar and Zuidema 2020, arXiv 2005.00928): heads are averaged, half of every token stays itself
(the residual connection), and the layers are multiplied, R = Â_N … Â_1 with Â = (A + I) / 2. The normal path never
computes these tables: they are made here, from what enters each layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polydetr.embedders.base import ShowsAttention
from polydetr.modalities.units import TokenWords
from polydetr.model.model import PolyModel
from polydetr.nn.batch import Batch, Embedded


def attention_layers(model: PolyModel, batch: Batch, *, group: str) -> tuple[dict[str, list[Tensor]], bool]:
    """Of the L tokens of one group: under "backbone" and "encoder", one (B, L, L) per layer, heads averaged, row = the
    token that looks; a part without layers is left out. And whether the backbone gives its attention at all.
    """
    backbone: list[Tensor] | None = None
    with torch.no_grad():
        embedded: dict[str, Embedded] = {}
        for name, tokens in batch.groups.items():
            embedder = model.embedders[name]
            if name == group and isinstance(embedder, ShowsAttention):
                embedded[name], backbone = embedder.with_attention(tokens)
            else:
                embedded[name] = embedder(tokens)
        _, weights = model.attend(embedded, need_weights=True)
    encoder = [] if weights is None else [layer[group, group].mean(1) for layer in weights.layers]
    parts = {"backbone": backbone or [], "encoder": encoder}
    return {name: layers for name, layers in parts.items() if layers}, backbone is not None


def attention_by_modality(model: PolyModel, batch: Batch) -> dict[str, float]:
    """How the attention of the pooled answer is shared out among the modalities' tokens, on average over the windows:
    rollout through the shared encoder, from the pooled vector's own weights. Empty where the encoder has no layers.
    """
    with torch.no_grad():
        embedded = {name: model.embedders[name](group) for name, group in batch.groups.items()}
        _, weights = model.attend(embedded, need_weights=True)
    if weights is None or not weights.layers:
        return {}
    masks = {name: group.mask for name, group in embedded.items()}
    layers = [  # (B, ΣL, ΣL)
        torch.cat([torch.cat([layer[query, key].mean(1) for key in masks], dim=2) for query in masks], dim=1)
        for layer in weights.layers
    ]
    # In the pooled vector, every group of the row has the same weight, and so has every token within its group.
    real = torch.stack([mask.any(1) for mask in masks.values()], dim=1).sum(1).clamp(min=1)[:, None]
    weight = torch.cat([mask / mask.sum(1, keepdim=True).clamp(min=1) / real for mask in masks.values()], dim=1)
    received = (weight[:, None] @ rollout(layers))[:, 0].split([mask.shape[1] for mask in masks.values()], dim=1)
    shares = {name: float(part.sum(1).mean()) for name, part in zip(masks, received, strict=True)}
    total = sum(shares.values()) or 1.0
    return {name: share / total for name, share in shares.items()}


def rollout(layers: Sequence[Tensor]) -> Tensor:
    """(B, L, L) per layer, first layer first → (B, L, L). Rows that do not sum to 1 (other modalities took a share) are
    normalized.
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
    """(L, L) per window → (words, words): what all tokens of a word receive, on average over the tokens of the word
    that looks.

    The row of a word in several windows comes from the one with most context around it, as in ``decode``. Rows sum to
    less than 1: the rest goes to [CLS] and [SEP].
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
