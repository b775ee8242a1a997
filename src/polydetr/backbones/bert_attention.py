"""The attention weights of a BERT-like encoder. The normal path never computes them as tables: that is done here, from
the input of each layer.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from polydetr.backbones.bert import BertEncoder, BertLayer

T = TypeVar("T")


def with_attention(backbone: BertEncoder, run: Callable[[], T]) -> tuple[T, list[Tensor]]:
    """What ``run`` returns, and each layer's attention weights in that pass, (B, L, L), the mean over the heads of
    softmax(q kᵀ / √d), from the layer's own projection of its input. Passes in other threads are left out.
    """
    here = threading.get_ident()
    layers: list[Tensor] = []

    def look(layer: nn.Module, inputs: tuple[Tensor, Tensor | None]) -> None:
        if threading.get_ident() != here or not isinstance(layer, BertLayer):
            return
        hidden, bias = inputs
        query, key, _ = layer.qkv(hidden).unflatten(-1, (3, layer.num_heads, -1)).unbind(2)  # (B, L, H, d)
        scores = torch.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(query.shape[-1])
        layers.append((scores if bias is None else scores + bias).softmax(-1).mean(1))

    handles = [layer.register_forward_pre_hook(look) for layer in backbone.layers]
    try:
        return run(), layers
    finally:
        for handle in handles:
            handle.remove()
