"""Numbers as vectors: each column of a table has an embedding of its own.

Shapes: B examples, L cells, K numbers per cell, D ``embed_dim``, C columns, F frequencies. ``columns`` says which
column each cell belongs to.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polydetr.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Float, Int64


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
