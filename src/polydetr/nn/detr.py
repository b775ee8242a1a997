"""DETR: the cells of an image's feature map are encoded, learned queries decode them into a set of boxes.

Source: Carion et al. 2020, "End-to-End Object Detection with Transformers" (arXiv 2005.12872), section 3.2 and
figure 10; two-dimensional positions after Parmar et al. 2018 (arXiv 1802.05751).

Shapes: B images, L = h · w cells of the coarsest feature map, Q queries, C classes, D ``embed_dim``, N decoder layers.
Masks are **True = real**.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polydetr.errors import ConfigError
from polydetr.nn.attention import MultiHeadAttention, useful_mask
from polydetr.nn.cpu.linear import Linear
from polydetr.nn.decoder import FeedForward, LearnedQueries, SetDecoder

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

_TEMPERATURE = 10_000.0


@dataclass(frozen=True)
class DetrSizes:
    """Everything about the architecture but its backbone; the defaults are DETR's. num_classes: without no-object.

    carry_norm: see ``SetDecoder``.
    """

    num_classes: int
    num_queries: int = 100
    embed_dim: int = 256
    encoder_layers: int = 6
    decoder_layers: int = 6
    encoder_heads: int = 8
    decoder_heads: int = 8
    encoder_ffn: int = 2048
    decoder_ffn: int = 2048
    dropout: float = 0.1
    activation: str = "relu"
    carry_norm: bool = False

    def __post_init__(self) -> None:
        if self.num_classes < 1 or self.encoder_layers < 0 or self.embed_dim < 4 or self.embed_dim % 4:
            raise ConfigError(
                f"num_classes={self.num_classes}, encoder_layers={self.encoder_layers} and "
                f"embed_dim={self.embed_dim} do not make a DETR.",
                hint="At least one class, and an embed_dim that is a multiple of 4.",
            )


class DetrEncoderLayer(nn.Module):
    """x = LN(x + Attention(x + e, x + e, x)); x = LN(x + FFN(x)), e the positions."""

    def __init__(self, sizes: DetrSizes) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(sizes.embed_dim, sizes.encoder_heads, dropout=sizes.dropout)
        self.attention_norm = nn.LayerNorm(sizes.embed_dim)
        self.ffn = FeedForward(sizes.embed_dim, sizes.encoder_ffn, dropout=sizes.dropout, activation=sizes.activation)
        self.ffn_norm = nn.LayerNorm(sizes.embed_dim)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(
        self, cells: Float[Tensor, "B L D"], positions: Float[Tensor, "B L D"], mask: Bool[Tensor, "B L"] | None
    ) -> Float[Tensor, "B L D"]:
        placed = cells + positions
        output, _ = self.attention(placed, placed, cells, mask)
        cells = self.attention_norm(cells + self.dropout(output))
        return self.ffn_norm(cells + self.ffn(cells))


class DetrEncoder(nn.Module):
    """The layers one after another; without any, cells pass through."""

    def __init__(self, sizes: DetrSizes) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DetrEncoderLayer(sizes) for _ in range(sizes.encoder_layers))

    def forward(
        self, cells: Float[Tensor, "B L D"], positions: Float[Tensor, "B L D"], mask: Bool[Tensor, "B L"] | None
    ) -> Float[Tensor, "B L D"]:
        for layer in self.layers:
            cells = layer(cells, positions, mask)
        return cells


class Perceptron(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        for number, layer in enumerate(self.layers):
            x = layer(F.relu(x) if number else x)
        return x


class Detr(nn.Module):
    """The whole of DETR but its backbone. channels: of the feature map that it reads."""

    def __init__(self, channels: int, sizes: DetrSizes) -> None:
        super().__init__()
        self.sizes, width = sizes, sizes.embed_dim
        self.input_projection = nn.Conv2d(channels, width, 1)
        self.encoder = DetrEncoder(sizes)
        self.queries = LearnedQueries(sizes.num_queries, width)
        self.decoder = SetDecoder(
            width,
            sizes.decoder_heads,
            num_layers=sizes.decoder_layers,
            ffn_dim=sizes.decoder_ffn,
            dropout=sizes.dropout,
            activation=sizes.activation,
            carry_norm=sizes.carry_norm,
        )
        self.class_head = Linear(width, sizes.num_classes + 1)
        self.box_head = Perceptron((width, width, width, 4))

    def forward(
        self,
        features: Float[Tensor, "B _ h w"],
        mask: Bool[Tensor, "B h w"] | None = None,
        *,
        last_only: bool = False,
        need_weights: bool = False,
    ) -> dict[str, Tensor]:
        """``logits`` (N, B, Q, C + 1), no-object last, and ``boxes_cxcywh`` (N, B, Q, 4), relative to the padded
        image; with ``need_weights`` also ``looked_at`` (N, B, heads, Q, h, w), the attention of each query.

        mask: the cells that show the image; None where none is padding. last_only: N is 1, the outputs of the last
        layer: enough for prediction.
        """
        cells = self.input_projection(features)
        batch, _, height, width = cells.shape
        real = torch.ones(batch, height, width, dtype=torch.bool, device=cells.device) if mask is None else mask
        positions = sine_positions(real, self.sizes.embed_dim).flatten(1, 2).to(cells.dtype)
        tokens, flat = cells.flatten(2).transpose(1, 2), None if mask is None else useful_mask(real.flatten(1))
        memory = self.encoder(tokens, positions, flat)
        content, places = self.queries(batch)
        states, weights = self.decoder(
            content, memory, flat, query_positions=places, memory_positions=positions, need_weights=need_weights
        )
        states = states[-1:] if last_only else states
        outputs = {"logits": self.class_head(states), "boxes_cxcywh": self.box_head(states).sigmoid()}
        if weights is not None:
            outputs["looked_at"] = weights.unflatten(-1, (height, width))
        return outputs


def sine_positions(mask: Bool[Tensor, "B h w"], embed_dim: int) -> Float[Tensor, "B h w {embed_dim}"]:
    """Sines and cosines of each cell's row, then of its column, counted over the real cells and scaled to 0 … 2π.

    PE(p, 2i) = sin(p / T^(2i/K)), PE(p, 2i+1) = cos(the same), K = D/2 for the row and for the column. float32.
    """
    half, steps = embed_dim // 2, torch.arange(embed_dim // 4, device=mask.device, dtype=torch.float32)
    frequencies = _TEMPERATURE ** (-2.0 * steps / half)
    real = mask.float()
    waves = []
    for axis in (1, 2):
        counted = real.cumsum(axis)
        scaled = counted / (counted.narrow(axis, -1, 1) + 1e-6) * (2 * math.pi)
        angles = scaled[..., None] * frequencies
        waves.append(torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2))
    return torch.cat(waves, dim=-1)
