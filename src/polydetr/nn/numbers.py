"""Numbers as vectors: each column of a table has an embedding of its own.

Shapes: B examples, L cells, K numbers per cell, D ``embed_dim``, C columns, F frequencies. ``columns`` says which
column each cell belongs to.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polydetr.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int64


class LinearNumbers(nn.Module):
    """token = b_c + Σ_k x_k w_ck: a weight for each number and a bias for each column c.

    Source: the feature tokenizer of Gorishniy et al. 2021 (arXiv 2106.11959), section 3.3, eq. T_j = b_j + x_j W_j.
    Raises ConfigError for sizes below 1.
    """

    def __init__(self, num_columns: int, embed_dim: int, *, width: int = 1) -> None:
        super().__init__()
        if min(num_columns, embed_dim, width) < 1:
            raise ConfigError(f"num_columns={num_columns}, embed_dim={embed_dim}, width={width} must be at least 1.")
        self.embed_dim, self.width = embed_dim, width
        # Tables, not parameters: what one column has learned is looked up, and does not decay.
        self.weight = nn.Embedding(num_columns, width * embed_dim)
        self.bias = nn.Embedding(num_columns, embed_dim)
        bound = embed_dim**-0.5
        for table in (self.weight, self.bias):
            nn.init.uniform_(table.weight, -bound, bound)

    def forward(
        self, numbers: Float[Tensor, "B L {self.width}"], columns: Int64[Tensor, "B L"]
    ) -> Float[Tensor, "B L {self.embed_dim}"]:
        weight = self.weight(columns).unflatten(-1, (self.width, self.embed_dim))
        return self.bias(columns) + (numbers[..., None].to(weight.dtype) * weight).sum(-2)


class PeriodicNumbers(nn.Module):
    """token = ReLU(A [cos v, sin v] + a), v_l = 2π f_cl x, with F learned frequencies per column, drawn from N(0, σ²).

    Source: Gorishniy et al. 2022 (arXiv 2203.05556), section 3.3 ("PLR"), here with A shared by all columns ("lite"):
    a table of few rows cannot feed one for each. One number per cell.
    Raises ConfigError for sizes below 1 or ``sigma`` not above 0.
    """

    def __init__(self, num_columns: int, embed_dim: int, *, num_frequencies: int = 16, sigma: float = 0.1) -> None:
        super().__init__()
        if min(num_columns, embed_dim, num_frequencies) < 1 or not sigma > 0:
            raise ConfigError(
                f"num_columns={num_columns}, embed_dim={embed_dim}, num_frequencies={num_frequencies} must be at least "
                f"1 and sigma={sigma} above 0."
            )
        self.embed_dim = embed_dim
        self.frequencies = nn.Embedding(num_columns, num_frequencies)
        nn.init.trunc_normal_(self.frequencies.weight, std=sigma, a=-3 * sigma, b=3 * sigma)
        self.project = nn.Linear(2 * num_frequencies, embed_dim)

    def forward(
        self, numbers: Float[Tensor, "B L"], columns: Int64[Tensor, "B L"]
    ) -> Float[Tensor, "B L {self.embed_dim}"]:
        frequencies = self.frequencies(columns)
        # float32: in half precision a wave is noise after a few periods
        angles = 2 * math.pi * frequencies.float() * numbers[..., None].float()
        waves = torch.cat((angles.cos(), angles.sin()), dim=-1).to(frequencies.dtype)
        return F.relu(self.project(waves))


BINS = 8
"""Pieces of a number's curve in ``CellSums``; of a standard normal number equally many values fall into each."""
_KNOTS = (-2.9, *(NormalDist().inv_cdf(i / BINS) for i in range(1, BINS)), 2.9)


def piecewise_linear(numbers: Float[Tensor, "*S"]) -> Float[Tensor, "*S T"]:
    """e_t(x) = clamp((x - b_t) / (b_{t+1} - b_t), 0, 1) - 1/2: how much of each of ``BINS`` bins lies below the number.

    Source: Gorishniy et al. 2022 (arXiv 2203.05556), section 3.2 (piecewise linear encoding); here of numbers that are
    about standard normal, so that the edges b of the quantiles are known, and centered.
    """
    edges = torch.tensor(_KNOTS, dtype=numbers.dtype, device=numbers.device)
    return ((numbers[..., None] - edges[:-1]) / (edges[1:] - edges[:-1])).clamp(0.0, 1.0) - 0.5


class Cells(NamedTuple):
    """Cells of a table. numbers (B, L, K); columns, codes (B, L): which column, and the code, 0 where the cell is its
    numbers; is_curve (B, L): the cells that are one number.
    """

    numbers: Tensor
    columns: Tensor
    codes: Tensor
    is_curve: Tensor


class CellSums(nn.Module):
    """What the cells of a row add up to, alone and by twos: an additive model with the interactions of a factorization
    machine, of which every cell has one row of numbers, z = (f, v).

        s_o = b_o + Σ_c f_co + Σ_k m_ko Σ_{c<d} v_ck v_dk,   Σ_{c<d} v_ck v_dk = ½ [(Σ_c v_ck)² − Σ_c v_ck²]
        z_c = Σ_k x_k w_ck + Σ_t e_t(x) v_ct + u_code

    A line through every number, a curve of linear pieces (``piecewise_linear``) through those that are one number, and
    a level for every code. All begin at zero. L cells, O outputs, R factors (``rank``; 0: no interactions).
    Sources: generalized additive models, Hastie & Tibshirani 1986; factorization machines, Rendle 2010 (eq. 1, 5), with
    factors that all outputs share; the linear part beside a deep one is that of Cheng et al. 2016 (arXiv 1606.07792).
    """

    def __init__(self, num_columns: int, num_codes: int, num_outputs: int, *, rank: int = 0, width: int = 1) -> None:
        super().__init__()
        self.num_outputs, self.rank, self.width = num_outputs, rank, width
        self.lines = nn.Embedding(num_columns, width * self.size)
        self.curves = nn.Embedding(num_columns, BINS * self.size)
        self.levels = nn.Embedding(num_codes, self.size)
        self.bias = nn.Parameter(torch.zeros(num_outputs))
        for table in (self.lines, self.curves, self.levels):
            nn.init.zeros_(table.weight)
        self.mix = nn.Parameter(torch.zeros(rank, num_outputs)) if rank else None

    @property
    def size(self) -> int:
        """O + R, the numbers of a cell."""
        return self.num_outputs + self.rank

    def forward(self, cells: Cells) -> Float[Tensor, "B L {self.size}"]:
        """z of every cell, in float32, also where the weights are rounded."""
        lines = self.lines(cells.columns).unflatten(-1, (self.width, self.size)).float()
        curves = self.curves(cells.columns).unflatten(-1, (BINS, self.size)).float()
        levels = self.levels(cells.codes).float() * (cells.codes != 0)[..., None]
        straight = (cells.numbers[..., None].float() * lines).sum(-2)
        return straight + (_pieces(cells)[..., None] * curves).sum(-2) + levels

    def total(self, z: Float[Tensor, "B L {self.size}"]) -> Float[Tensor, "B {self.num_outputs}"]:
        """s of every row; z: of its cells, zero of those that are hidden."""
        alone = z[..., : self.num_outputs].sum(1) + self.bias.float()
        return alone if self.mix is None else alone + by_twos(z[..., self.num_outputs :]) @ self.mix.float()

    @property
    def num_designed(self) -> int:
        """F, the columns of the design, of every column of the table."""
        return self.width + BINS

    def design(self, cells: Cells, mask: Bool[Tensor, "B L"]) -> Float[Tensor, "B C {self.num_designed}"]:
        """What the weights of ``lines`` and ``curves`` multiply, by column of the table: ``width`` numbers, then BINS.

        ``designed`` adds up the same as ``forward``.
        """
        values = torch.cat([cells.numbers.float(), _pieces(cells)], dim=-1)
        per_column = values.new_zeros(len(values), self.lines.num_embeddings, values.shape[-1])
        return per_column.scatter_add(1, cells.columns[..., None].expand_as(values), values * mask[..., None])

    def designed(self, weights: Float[Tensor, "C F {self.size}"]) -> tuple[Tensor, Tensor]:
        """Weights by the columns of the design → those of ``lines`` and ``curves``."""
        lines, curves = weights.split([self.width, BINS], dim=1)
        return lines.reshape_as(self.lines.weight), curves.reshape_as(self.curves.weight)


def by_twos(v: Float[Tensor, "B L R"]) -> Float[Tensor, "B R"]:
    """Σ_{c<d} v_c v_d over the L cells, in linear time."""
    return 0.5 * (v.sum(1).square() - v.square().sum(1))


def _pieces(cells: Cells) -> Float[Tensor, "B L T"]:
    return piecewise_linear(cells.numbers[..., 0].float()) * cells.is_curve[..., None]
