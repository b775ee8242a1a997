"""The additive model of a table's cells (``nn.numbers.CellSums``), fitted at once.

    min over w and b:  L(s(w) + b) + λ / 2n · |w|²

L is the head's own loss, a mean over n rows: logistic or Huber regression, which is convex in w, so that L-BFGS (Liu &
Nocedal 1989) finds the minimum in a second. λ is the one with the least loss on rows that were left out. Then the cells
may act in pairs, too (the factors of ``CellSums``, fitted likewise from small random numbers), where that answers rows
that were left out better.

Shapes: n rows, C columns, F numbers that a column's cell is designed as.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from polydetr.heads.base import Head
from polydetr.nn.cpu.threads import limited_to, waits_asleep
from polydetr.nn.numbers import by_twos

STRENGTHS = (1000.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
"""The values of λ that are tried, the strongest first: each fit begins where the one before it ended."""
IN_TIME = (100.0, 10.0, 1.0)
"""Those that are tried under a time limit, all of them however little time there is."""
PAIR_STRENGTHS = (10.0, 1.0, 0.1)
"""The values of λ that are tried where cells act in pairs."""
FIRST_FACTORS = 0.1
"""The standard deviation of the random numbers that factors begin with: at zero their slopes are zero, too."""
FOLDS, ONE_FOLD_FROM = 5, 2000
"""Parts of the rows of which each is left out once; from so many rows on, one part alone."""
ITERATIONS, IN_PARTS = 100, 10
"""Of a search; and so many times it looks at the clock where its time is limited."""


class Weights(NamedTuple):
    """As ``CellSums`` has them: of the design (C, F, outputs + factors), of the codes (codes, outputs + factors), the
    bias (outputs,), and how the factors are mixed (factors, outputs), None where there are none.
    """

    design: Tensor
    levels: Tensor
    bias: Tensor
    mix: Tensor | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> Weights:
        mix = None if self.mix is None else change(self.mix)
        return Weights(change(self.design), change(self.levels), change(self.bias), mix)

    def with_factors(self, rank: int, *, seed: int) -> Weights:
        """Followed by small random ones. seed: of these."""
        drawn = torch.Generator().manual_seed(seed)
        design, levels = (
            torch.cat([part, FIRST_FACTORS * torch.randn(*part.shape[:-1], rank, generator=drawn)], -1)
            for part in (self.design, self.levels)
        )
        levels[0] = 0.0  # no code
        return Weights(design, levels, self.bias, torch.randn(rank, len(self.bias), generator=drawn) / rank**0.5)


@dataclass(frozen=True)
class DesignedRows:
    """The rows of a fit: what the weights are multiplied with, and the loss of the head on them; on the CPU.

    labels, weights: of the rows, as the head takes them. design (C, F, n), rows last, as products of few weights with
    many rows are quickest so; codes (C, n), 0 for none, below ``num_codes``; offset (n, outputs): what is answered
    already.
    """

    head: Head
    labels: Mapping[str, Tensor]
    weights: Tensor
    design: Tensor
    codes: Tensor
    num_codes: int
    offset: Tensor

    def __len__(self) -> int:
        return len(self.weights)

    def part(self, of: Tensor) -> DesignedRows:
        """of: (n,), those that are wanted."""
        labels = {name: tensor[of] for name, tensor in self.labels.items()}
        return replace(
            self, labels=labels, weights=self.weights[of], design=self.design[..., of], codes=self.codes[:, of],
            offset=self.offset[of],
        )  # fmt: skip

    def parted(self, fold: int) -> tuple[DesignedRows, DesignedRows]:
        """(the others, every fifth one)."""
        out = torch.arange(len(self)) % FOLDS == fold
        return self.part(~out), self.part(out)

    @cached_property
    def counted(self) -> float:
        return float(self.head.counted(self.labels, self.weights))

    @cached_property
    def levels(self) -> _Levels:
        return _Levels(self.codes, self.num_codes)

    @property
    def zero(self) -> Weights:
        (columns, width, _), outputs = self.design.shape, self.offset.shape[1]
        design, levels = torch.zeros(columns, width, outputs), torch.zeros(self.num_codes, outputs)
        return Weights(design, levels, torch.zeros(outputs))

    def logits(self, weights: Weights) -> Tensor:
        z = torch.bmm(weights.design.transpose(1, 2), self.design) + self.levels.of(weights.levels)
        answered = self.offset + weights.bias
        if weights.mix is None:
            return answered + z.sum(0).T
        alone, factors = z.split([len(weights.bias), len(weights.mix)], dim=1)
        return answered + alone.sum(0).T + by_twos(factors.permute(2, 0, 1)) @ weights.mix

    def loss(self, weights: Weights) -> Tensor:
        losses = self.head.loss({"logits": self.logits(weights)}, self.labels, self.weights)
        return torch.stack([*losses.values()]).sum()

    def minimum(self, start: Weights, strength: float, *, until: float = float("inf")) -> Weights:
        """until: the time, by ``time.monotonic``, at which the search ends where it has come to."""
        weights = start.each(lambda tensor: tensor.clone().requires_grad_())
        pulled = [tensor for tensor in (weights.design, weights.levels, weights.mix) if tensor is not None]
        pull = strength / (2 * self.counted)
        steps = 1 if until == float("inf") else IN_PARTS
        moved = [*pulled, weights.bias]
        search = _Search(moved, max_iter=ITERATIONS // steps, history_size=20, line_search_fn="strong_wolfe")

        def objective() -> Tensor:
            for tensor in moved:
                tensor.grad = None
            penalty = torch.stack([tensor.square().sum() for tensor in pulled]).sum()
            value = self.loss(weights) + pull * penalty
            value.backward()
            return value

        # A thousand products of a millisecond: threads that spin gain nothing, and lose all beside another program.
        with torch.enable_grad(), limited_to(None if waits_asleep() else 1):
            for _ in range(steps):
                search.step(objective)
                if time.monotonic() > until:
                    break
        return weights.each(Tensor.detach)


class _Levels:
    """The rows of a table by their codes. Its gradient is one sparse product: PyTorch's own adds row by row, which
    takes longer than all the rest of a fit.
    """

    def __init__(self, codes: Tensor, num_codes: int) -> None:
        """codes (C, n), 0 for none, which has zeros."""
        from scipy.sparse import csr_matrix

        self.codes = codes
        flat = codes.flatten().numpy()
        (places,) = flat.nonzero()
        entries = (np.ones(len(places), dtype=np.float32), (flat[places], places))
        self._of_codes = csr_matrix(entries, shape=(num_codes, len(flat)))

    def of(self, levels: Tensor) -> Tensor:
        """levels (codes, Z) → (C, Z, n)."""
        return _Looked.apply(levels, self)  # type: ignore[no-any-return]

    def gradient(self, of_rows: Tensor) -> Tensor:
        """of_rows (C, Z, n) → (codes, Z)."""
        return torch.from_numpy(self._of_codes @ of_rows.transpose(1, 2).flatten(0, 1).numpy())


class _Looked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, levels: Tensor, table: _Levels) -> Tensor:  # type: ignore[override]
        ctx.table = table
        found = levels.T.contiguous()[:, table.codes.flatten()]
        return found.unflatten(1, table.codes.shape).transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return ctx.table.gradient(gradient), None


class _Search(torch.optim.LBFGS):
    """PyTorch's own, less a wrapper that would import its compiler (800 modules, 2 s on an ordinary machine) only to
    tell it to leave this method alone.
    """

    add_param_group = inspect.unwrap(torch.optim.LBFGS.add_param_group)


def fit(rows: DesignedRows, *, until: float, times: float = 1.0, or_nothing: bool = False) -> tuple[Weights, float]:
    """The weights, and the λ by which rows that were left out have the least loss: ``times`` one of ``STRENGTHS``.
    or_nothing: zeros, and an infinite λ, where none is better. until: the time, by ``time.monotonic``, from which on no
    further rows are left out.
    """
    strengths = [times * strength for strength in (STRENGTHS if until == float("inf") else IN_TIME)]
    losses, nothing = np.zeros(len(strengths)), 0.0
    starts: list[Weights] = []
    for fold in range(1 if len(rows) >= ONE_FOLD_FROM else FOLDS):
        if fold and time.monotonic() > until:
            break
        weights, (kept, held) = rows.zero, rows.parted(fold)
        nothing += float(held.loss(weights) * held.counted)
        for i, strength in enumerate(strengths) if kept.counted else ():
            weights = kept.minimum(weights, strength)
            losses[i] += float(held.loss(weights) * held.counted)
            starts += [] if fold else [weights]
    best = int(losses.argmin())
    if or_nothing and losses[best] >= nothing:
        return rows.zero, float("inf")
    if starts and time.monotonic() > until:  # from where the first fold came to
        return rows.minimum(starts[best], strengths[best]), strengths[best]
    weights = rows.zero
    for strength in strengths[: best + 1]:
        weights = rows.minimum(weights, strength)
    return weights, strengths[best]


def fit_with_pairs(
    rows: DesignedRows, alone: Weights, strength: float, rank: int, *, seed: int, until: float
) -> Weights:
    """The weights of a sum whose cells act in pairs, too; ``alone``, the minimum without, at ``strength``, where that
    answers rows that were left out as well.
    """
    strengths = PAIR_STRENGTHS if until == float("inf") else PAIR_STRENGTHS[1:2]
    losses, nothing = np.zeros(len(strengths)), 0.0
    for fold in range(1 if len(rows) >= ONE_FOLD_FROM else FOLDS):
        kept, held = rows.parted(fold)
        if not kept.counted or (fold and time.monotonic() > until):
            continue
        weights = kept.minimum(alone, strength)
        nothing += float(held.loss(weights) * held.counted)
        weights = weights.with_factors(rank, seed=seed)
        for i, pulled in enumerate(strengths):
            weights = kept.minimum(weights, pulled, until=until)
            losses[i] += float(held.loss(weights) * held.counted)
    best = int(losses.argmin())
    if losses[best] >= nothing:
        return alone
    weights = alone.with_factors(rank, seed=seed)
    for pulled in strengths[: best + 1]:
        weights = rows.minimum(weights, pulled, until=until)
    return weights
