"""detr-fast: a set of boxes from maps of several scales, by a DETR that learns in fewer epochs. Maps in, tensors out.

    maps → pyramid → proposals: the cells that score highest become queries, each with a first box
         → decoder layers: queries attend to one another, then to a few points around their boxes on every scale;
           each layer refines the boxes

Sources: Deformable DETR (Zhu et al. 2020, arXiv 2010.04159): deformable attention, iterative refinement, two stages;
DINO (Zhang et al. 2022, arXiv 2203.03605): look forward twice; RT-DETR (Zhao et al. 2023, arXiv 2304.08069): pyramid,
selection of queries. Each part can be switched off by ``FastSizes``.

Shapes: B images, V levels from the finest to the coarsest, S cells of all levels, Q queries, C classes,
D ``embed_dim``, N decoder layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from polydetr.errors import ConfigError
from polydetr.nn.attention import MultiHeadAttention
from polydetr.nn.cpu.linear import Linear
from polydetr.nn.decoder import DecoderLayer
from polydetr.nn.deformable import DeformableAttention, Shapes
from polydetr.nn.detr import Perceptron
from polydetr.nn.pyramid import PyramidEncoder

if TYPE_CHECKING:
    from jaxtyping import Float

_FIRST_SCORE = 0.01
"""The initial probability of every class (focal loss, Lin et al. 2017, arXiv 1708.02002, section 4.1)."""
_FIRST_SIDE = 0.05
"""Side of the first box of a cell of the finest level, as a share of the image; doubled at each coarser one."""
_EDGE = 1e-5


@dataclass(frozen=True)
class FastSizes:
    """The architecture. channels: of each map, from the finest to the coarsest.

    Raises ConfigError for sizes that make no detector.
    """

    num_classes: int
    channels: tuple[int, ...]
    num_queries: int = 100
    embed_dim: int = 128
    num_heads: int = 8
    ffn_dim: int = 512
    encoder_layers: int = 1
    decoder_layers: int = 3
    num_points: int = 4
    dropout: float = 0.0
    refine: bool = True
    query_selection: bool = True
    deformable: bool = True

    def __post_init__(self) -> None:
        if min(self.num_classes, self.num_queries, self.decoder_layers, len(self.channels)) < 1 or self.embed_dim % 4:
            raise ConfigError(
                f"num_classes={self.num_classes}, num_queries={self.num_queries}, embed_dim={self.embed_dim}, "
                f"decoder_layers={self.decoder_layers} and {len(self.channels)} maps do not make a detector.",
                hint="At least one of each, and an embed_dim that is a multiple of 4.",
            )


class DetrFast(nn.Module):
    """See the head of this file."""

    def __init__(self, sizes: FastSizes) -> None:
        super().__init__()
        self.sizes, width, classes = sizes, sizes.embed_dim, sizes.num_classes
        self.pyramid = PyramidEncoder(
            sizes.channels, width, num_layers=sizes.encoder_layers, num_heads=sizes.num_heads, ffn_dim=sizes.ffn_dim,
            dropout=sizes.dropout,
        )  # fmt: skip
        self.layers = nn.ModuleList(_layer(sizes) for _ in range(sizes.decoder_layers))
        self.place = Perceptron((4, 2 * width, width))
        self.class_heads = nn.ModuleList(_class_head(width, classes) for _ in self.layers)
        self.box_heads = nn.ModuleList(_box_head(width) for _ in self.layers)
        self.proposals = Proposals(sizes) if sizes.query_selection else None
        if self.proposals is None:
            self.queries = nn.Embedding(sizes.num_queries, width)
            anywhere = torch.cat((torch.rand(sizes.num_queries, 2), torch.full((sizes.num_queries, 2), 0.1)), dim=1)
            self.first_boxes = nn.Parameter(inverse_sigmoid(anywhere))
        self.register_load_state_dict_pre_hook(_forget_denoising)

    def forward(self, maps: Sequence[Float[Tensor, "B C h w"]], *, last_only: bool = False) -> dict[str, Tensor]:
        """``logits`` (N', B, Q, C), before the sigmoid, and ``boxes_cxcywh`` (N', B, Q, 4), float32, as shares of the
        image. N' counts the layers, and the proposals before them where queries are selected.

        last_only: N' is 1, the outputs of the last layer: enough for prediction.
        """
        levels = self.pyramid(maps)
        shapes = [(int(level.shape[-2]), int(level.shape[-1])) for level in levels]
        memory = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)
        content, anchors, first = self._first(memory, shapes, last_only=last_only)
        logits, boxes = self._decode(content, anchors, memory, shapes, last_only=last_only)
        if first is not None:
            logits, boxes = torch.cat((first[0][None], logits)), torch.cat((first[1][None], boxes))
        return {"logits": logits, "boxes_cxcywh": boxes}

    def _first(
        self, memory: Tensor, shapes: Shapes, *, last_only: bool
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]:
        """Content (B, Q, D) and boxes (B, Q, 4), before the sigmoid, of the first layer's queries; logits and boxes of
        the proposals, for the loss.
        """
        if self.proposals is None:
            batch = memory.shape[0]
            return self.queries.weight.expand(batch, -1, -1), self.first_boxes.float().expand(batch, -1, -1), None
        content, anchors, logits = self.proposals(memory, shapes)
        # Both go on without gradients: the decoder must not learn through the selection (RT-DETR, DINO).
        return content.detach(), anchors.detach(), None if last_only else (logits, anchors.sigmoid())

    def _decode(
        self, state: Tensor, anchors: Tensor, memory: Tensor, shapes: Shapes, *, last_only: bool
    ) -> tuple[Tensor, Tensor]:
        """anchors (B, Q, 4): boxes before the sigmoid, float32 throughout: in half precision they would stop moving."""
        logits, boxes = [], []
        reading = anchors  # with the gradient of the layer before: look forward twice
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            references = anchors.sigmoid()
            positions = self.place(references.to(state.dtype))
            attend_memory = self._memory_attention(cast(DecoderLayer, layer), memory, references, shapes)
            state = layer(state, attend_memory, positions=positions)
            wanted = number == last or not last_only
            if not (wanted or self.sizes.refine):
                continue
            moved = reading + self.box_heads[number](state).float()
            if wanted:
                logits.append(self.class_heads[number](state))
                boxes.append(moved.sigmoid())
            if self.sizes.refine:
                reading, anchors = moved, moved.detach()
        return torch.stack(logits), torch.stack(boxes)

    def _memory_attention(
        self, layer: DecoderLayer, memory: Tensor, references: Tensor, shapes: Shapes
    ) -> Callable[[Tensor], Tensor]:
        attention = layer.cross_attention
        if isinstance(attention, DeformableAttention):
            around = references[:, :, None].expand(-1, -1, len(shapes), -1)
            return lambda queries: attention(queries, around, memory, shapes)
        placed = memory + self.place(cell_boxes(shapes, memory.device).to(memory.dtype))
        return lambda queries: attention(queries, placed, memory)[0]


class Proposals(nn.Module):
    """Every cell gets a score per class; the Q cells that score highest become queries, with a box around each."""

    def __init__(self, sizes: FastSizes) -> None:
        super().__init__()
        self.num_queries = sizes.num_queries
        self.read = nn.Sequential(Linear(sizes.embed_dim, sizes.embed_dim), nn.LayerNorm(sizes.embed_dim))
        self.class_head = _class_head(sizes.embed_dim, sizes.num_classes)
        self.box_head = _box_head(sizes.embed_dim)

    def forward(self, memory: Tensor, shapes: Shapes) -> tuple[Tensor, Tensor, Tensor]:
        """content (B, Q, D), boxes before the sigmoid (B, Q, 4) float32, logits (B, Q, C), the highest-scoring first;
        where there are fewer cells than queries, cells are taken twice.
        """
        content = self.read(memory)
        logits = self.class_head(content)
        best = logits.amax(-1)
        chosen = best.topk(min(self.num_queries, best.shape[1]), dim=1).indices
        if chosen.shape[1] < self.num_queries:
            chosen = chosen.repeat(1, math.ceil(self.num_queries / chosen.shape[1]))[:, : self.num_queries]
        content, logits = (x.gather(1, chosen[..., None].expand(-1, -1, x.shape[-1])) for x in (content, logits))
        anchors = inverse_sigmoid(cell_boxes(shapes, memory.device))[0][chosen]
        return content, anchors + self.box_head(content).float(), logits


def cell_boxes(shapes: Shapes, device: torch.device | None = None) -> Float[Tensor, "1 S 4"]:
    """The box with which each cell begins, (cx, cy, w, h): around its centre, larger on coarser levels."""
    boxes = []
    for level, (height, width) in enumerate(shapes):
        y, x = torch.meshgrid(
            (torch.arange(height, device=device) + 0.5) / height,
            (torch.arange(width, device=device) + 0.5) / width,
            indexing="ij",
        )
        # Whatever the image's size, a box is no smaller than a cell.
        side = max(_FIRST_SIDE * 2.0**level, 1.0 / max(height, width))
        boxes.append(torch.stack((x, y, torch.full_like(x, side), torch.full_like(y, side)), dim=-1).flatten(0, 1))
    return torch.cat(boxes)[None]


def _forget_denoising(module: nn.Module, state: dict[str, Tensor], prefix: str, *rest: object) -> None:
    """Folders of polydetr 0.1 may hold what denoising embedded its labels with; nothing reads it any longer."""
    state.pop(f"{prefix}label_embedding.weight", None)


def inverse_sigmoid(x: Tensor) -> Tensor:
    """log(x / (1 - x)), finite for any x."""
    return x.clamp(_EDGE, 1 - _EDGE).logit()


def _layer(sizes: FastSizes) -> DecoderLayer:
    width, heads, levels = sizes.embed_dim, sizes.num_heads, len(sizes.channels)
    attention: nn.Module
    if sizes.deformable:
        attention = DeformableAttention(width, heads, num_levels=levels, num_points=sizes.num_points)
    else:
        attention = MultiHeadAttention(width, heads, dropout=sizes.dropout)
    return DecoderLayer(width, heads, ffn_dim=sizes.ffn_dim, dropout=sizes.dropout, cross_attention=attention)


def _class_head(width: int, classes: int) -> Linear:
    head = Linear(width, classes)
    nn.init.constant_(head.bias, -math.log((1 - _FIRST_SCORE) / _FIRST_SCORE))
    return head


def _box_head(width: int) -> Perceptron:
    """Begins with offsets near zero: boxes stay almost where they are."""
    head = Perceptron((width, width, width, 4))
    last = cast(Linear, head.layers[-1])
    nn.init.normal_(last.weight, std=1e-3)
    nn.init.zeros_(last.bias)
    return head
