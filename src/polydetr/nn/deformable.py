"""Multi-scale deformable attention: each query reads a few learned points on every map, instead of all cells.

Source: Zhu et al. 2020, Deformable DETR (arXiv 2010.04159), equation 3:

    z_q = Σ_h W_h [ Σ_l Σ_p A_hqlp · W'_h x_l(φ_l(r_q) + Δ_hqlp) ]        Σ_l Σ_p A_hqlp = 1

x_l(·) is read bilinearly between the centers of the cells; beyond the border it is zero.

Shapes: B examples, Q queries, S memory tokens (the maps' cells, row by row, one map after another), D ``embed_dim``,
H heads, K = D / H, V levels (maps), P points; ``shapes`` holds (height, width) of each level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polydetr.errors import ConfigError
from polydetr.nn.cpu.linear import Linear, is_capturing

if TYPE_CHECKING:
    from jaxtyping import Float

Shapes = Sequence[tuple[int, int]]


class DeformableAttention(nn.Module):
    """One softmax over the P points of all V levels. Starts as in the paper: equal weights, points on a star around
    the reference, one direction per head.

    Raises ConfigError when ``embed_dim`` is no positive multiple of ``num_heads``, or there is no level or point.
    """

    def __init__(self, embed_dim: int, num_heads: int, *, num_levels: int, num_points: int = 4) -> None:
        super().__init__()
        if num_heads < 1 or embed_dim < 1 or embed_dim % num_heads or num_levels < 1 or num_points < 1:
            raise ConfigError(
                f"embed_dim={embed_dim}, num_heads={num_heads}, num_levels={num_levels} and num_points={num_points} "
                "do not make a deformable attention.",
                hint="embed_dim must be a positive multiple of num_heads, with at least one level and one point.",
            )
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        points = num_heads * num_levels * num_points
        self.offsets = Linear(embed_dim, 2 * points)
        self.weights = Linear(embed_dim, points)
        self.value = Linear(embed_dim, embed_dim)
        self.output = Linear(embed_dim, embed_dim)
        for linear in (self.offsets, self.weights, self.value, self.output):
            nn.init.zeros_(linear.bias)
        for linear in (self.value, self.output):
            nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.offsets.weight)
        with torch.no_grad():
            self.offsets.bias.copy_(_star(num_heads, num_levels, num_points))

    def forward(
        self,
        queries: Float[Tensor, "B Q D"],
        references: Float[Tensor, "B Q V 4"],
        memory: Float[Tensor, "B S D"],
        shapes: Shapes,
    ) -> Float[Tensor, "B Q D"]:
        """references: boxes (cx, cy, w, h) in 0 … 1 of each level; an offset of 1 is half the box's size, divided by P.
        ``shapes`` has V levels, S cells together.
        """
        values = self.value(memory)
        locations, weights = self.points(queries, references)
        read = sample(values.unflatten(-1, (self.num_heads, -1)), shapes, locations, weights)
        return self.output(read)

    def points(
        self, queries: Float[Tensor, "B Q D"], references: Float[Tensor, "B Q V 4"]
    ) -> tuple[Float[Tensor, "B Q H V P 2"], Float[Tensor, "B Q H V P"]]:
        """The points that each query reads, (x, y) in 0 … 1 of each level, and their weights."""
        layout = (*queries.shape[:2], self.num_heads, self.num_levels, self.num_points)
        offsets = self.offsets(queries).view(*layout, 2)
        weights = self.weights(queries).view(*layout[:3], -1).softmax(-1).view(layout)
        around = references[:, :, None, :, None, :]
        return around[..., :2] + offsets / self.num_points * around[..., 2:] * 0.5, weights


def sample(
    values: Float[Tensor, "B S H K"],
    shapes: Shapes,
    locations: Float[Tensor, "B Q H V P 2"],
    weights: Float[Tensor, "B Q H V P"],
) -> Float[Tensor, "B Q D"]:
    """Σ_l Σ_p weight · value at the location; (x, y) in 0 … 1 are the borders of the map, not its outer cells' centers.

    Without gradients on the CPU by one weighted sum over table rows; else, and while a graph is captured, by
    ``grid_sample`` level by level, whose backward pass is the faster one. Both give the same.
    """
    wants_gradients = torch.is_grad_enabled() and (
        values.requires_grad or locations.requires_grad or weights.requires_grad
    )
    if values.device.type == "cpu" and not wants_gradients and not is_capturing():
        return sample_by_rows(values, shapes, locations, weights)
    return sample_by_grid(values, shapes, locations, weights)


def sample_by_rows(values: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Every cell of every head is one row of a table; an output is the weighted sum of 4 · V · P rows.

    Nothing is copied to another layout, and values at single points are never stored: the kernel adds whole rows.
    """
    batch, length, heads, width = values.shape
    num_queries, device = locations.shape[1], values.device
    # Cells are counted in float32: half precision cannot resolve the cells of a large map.
    locations = locations if locations.dtype == torch.float64 else locations.float()
    # The row of each example's first cell, for each head.
    table = torch.arange(batch, device=device)[:, None, None, None] * (length * heads)
    table = table + torch.arange(heads, device=device)[:, None]
    indices, portions, start = [], [], 0
    for level, (height, across) in enumerate(shapes):
        x, y = locations[:, :, :, level].unbind(-1)
        columns, rows = _neighbors(x, across), _neighbors(y, height)
        first, weight = table + start * heads, weights[:, :, :, level]
        for row, down in rows:
            begin, share = first + row * (across * heads), weight * down
            for column, right in columns:
                indices.append(begin + column * heads)
                portions.append(share * right)
        start += height * across
    bags = batch * num_queries * heads
    read = F.embedding_bag(
        torch.cat(indices, dim=-1).view(bags, -1),
        values.reshape(-1, width),
        per_sample_weights=torch.cat(portions, dim=-1).to(values.dtype).view(bags, -1),
        mode="sum",
    )
    return read.view(batch, num_queries, heads * width)


def _neighbors(place: Tensor, cells: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The two cells between whose centers a place (0 … 1) lies, as (index, share); beyond the border the share is 0."""
    place = place * cells - 0.5
    low = place.floor()
    high_share = place - low
    # Not a number becomes an arbitrary whole one, which must still name a row of the table.
    index = low.long()
    low_share = (1 - high_share) * ((low >= 0) & (low < cells))
    high_share = high_share * ((low >= -1) & (low < cells - 1))
    return (index.clamp(0, cells - 1), low_share), ((index + 1).clamp(0, cells - 1), high_share)


def sample_by_grid(values: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """The same by PyTorch's bilinear sampling, one level after another.

    In float32, whatever the values are: a position in half precision may be off by a tenth of a cell, and PyTorch's
    bfloat16 kernel takes longer and, for maps that are not contiguous, gives numbers that are not even finite.
    """
    batch, _, heads, width = values.shape
    num_queries, exact = locations.shape[1], torch.promote_types(values.dtype, torch.float32)
    maps = values.permute(0, 2, 3, 1).flatten(0, 1).to(exact).contiguous()
    # Points before queries: the sum over points then adds long rows instead of four numbers at a time.
    points = (2 * locations.to(exact) - 1).permute(0, 2, 3, 4, 1, 5).flatten(0, 1)
    portions = weights.permute(0, 2, 3, 4, 1).flatten(0, 1)[:, None].to(exact)
    total, start = maps.new_zeros(batch * heads, width, num_queries), 0
    for level, (height, across) in enumerate(shapes):
        cells = maps[..., start : start + height * across].unflatten(-1, (height, across))
        read = F.grid_sample(cells, points[:, level], align_corners=False)
        total = total + (read * portions[:, :, level]).sum(-2)
        start += height * across
    return total.view(batch, heads * width, num_queries).transpose(1, 2).to(values.dtype)


def _star(heads: int, levels: int, points: int) -> Tensor:
    """Offsets (H · V · P · 2): head h looks towards 2π h / H, point p stands p + 1 cells away (on the square's rim)."""
    angles = torch.arange(heads, dtype=torch.float32) * (2 * math.pi / heads)
    directions = torch.stack((angles.cos(), angles.sin()), dim=-1)
    directions = directions / directions.abs().amax(-1, keepdim=True)
    distances = torch.arange(1, points + 1, dtype=torch.float32)
    star = directions[:, None, None, :] * distances[None, None, :, None]
    return star.expand(heads, levels, points, 2).flatten()
