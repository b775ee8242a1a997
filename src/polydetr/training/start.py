"""What a run begins with: of a table, the additive model (``nn.numbers.CellSums``), fitted before the first step.

    min over w and b:  L(s(w) + b) + λ / 2n · |w|²

L is the head's own loss, a mean over n rows: logistic or Huber regression, which is convex in w, so that L-BFGS (Liu &
Nocedal 1989) finds the minimum in a second. λ is the one with the least loss on rows that were left out. Then the cells
may act in pairs, too (the factors of ``CellSums``, fitted likewise from small random numbers), where that answers rows
that were left out better. Training goes on from there with all weights, as linear probing followed by fine-tuning does
(Kumar et al. 2022, arXiv 2202.10054); the validation rows choose the start itself where nothing improves on it.
"""

from __future__ import annotations

import inspect
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from polydetr.core.examples import Example
from polydetr.core.records import Record
from polydetr.data.batching import token_budget_batches
from polydetr.data.store import ExampleStore
from polydetr.engine.encode import RowEncoder
from polydetr.errors import RowError
from polydetr.heads.base import Head
from polydetr.model.build import Assembly
from polydetr.nn.batch import Batch
from polydetr.nn.cpu.threads import limited_to, waits_asleep
from polydetr.nn.numbers import Cells, CellSums, by_twos
from polydetr.nn.pooling import masked_mean

SAMPLE = 10_000
"""Rows at most from which it is fitted: it has few weights, and more rows would hardly move them."""
MOST_NUMBERS = 30_000_000
"""That are held at a time, which bounds the rows of wide tables."""
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
BACKBONE_TOKENS = 100_000
"""Through so many tokens at most backbones go, once, for what their means add."""


def start_from_tables(
    assembly: Assembly, store: ExampleStore, *, seed: int, most: int | None = None, seconds: float | None = None,
    cells: Sequence[Example] = (),
) -> dict[str, float]:  # fmt: skip
    """Fits what cells add up to, of every target that has it (``PolyModel.additive``), while the rest of the network
    adds nothing yet. Returns target → λ.

    most: rows at most that backbones read for it. seconds: of a time limit, after which no further rows are left out to
    choose λ by; what has been found by then is fitted all the same. cells: rows of the table alone
    (``cells_in_time``), where these are more than there are in the store.
    """
    model = assembly.model
    if not model.additive:
        return {}
    model.open_gate(0.0)
    chosen: dict[str, float] = {}
    left = len(model.additive)
    ends = float("inf") if seconds is None else time.monotonic() + seconds
    order = np.random.default_rng(seed).permutation(len(store)).tolist()
    of_table = np.random.default_rng(seed).permutation(len(cells)).tolist() if len(cells) > len(store) else []
    for target in model.additive:
        until = ends if seconds is None else time.monotonic() + (ends - time.monotonic()) / left
        left -= 1
        _, sums = model.adder_of(target)
        designed = sums.num_designed * sums.lines.num_embeddings
        few = max(1, min(SAMPLE, MOST_NUMBERS // designed))
        rows = (
            _rows_of(assembly, target, cells, of_table[:few])
            if of_table
            else _rows_of(assembly, target, store, order[:few])
        )
        if not rows.counted:
            continue
        weights, chosen[target] = _fit(rows, STRENGTHS if seconds is None else IN_TIME, until=until)
        if sums.mix is not None and time.monotonic() < until:
            weights = _with_pairs(rows, weights, chosen[target], sums.rank, seed=seed, until=until)
        _set(sums, weights)
        if model.means_of(target):
            sample = order[:few]
            own = _rows_of(assembly, target, store, sample) if of_table else rows
            _add_means(assembly, target, own, own.logits(weights), store, sample[:most], until=until)
    return chosen


@torch.no_grad()
def _set(sums: CellSums, weights: _Weights) -> None:
    wide = sums.size - weights.levels.shape[1]  # factors that were not fitted are zero
    for part, value in zip((sums.lines, sums.curves), sums.designed(F.pad(weights.design, (0, wide))), strict=True):
        part.weight.copy_(value)
    sums.levels.weight.copy_(F.pad(weights.levels, (0, wide)))
    sums.bias.copy_(weights.bias)
    if weights.mix is not None and sums.mix is not None:
        sums.mix.copy_(weights.mix)


def cells_in_time(assembly: Assembly, records: Sequence[Record], *, seconds: float, seed: int) -> list[Example]:
    """The table's cells and the labels of rows drawn at random, ``SAMPLE`` at most, as long as there is time: they are
    quick to read where images or long texts beside them are not. Rows that cannot be read are passed over: whoever
    reads them whole reports them.
    """
    ends = time.monotonic() + seconds
    encoder, additive = assembly.engine.encoder, assembly.model.additive
    readers = {reader: encoder.modalities[reader] for reader in additive.values()}
    alone = RowEncoder(readers, {target: assembly.engine.tasks[target] for target in additive}, context=False)
    found: list[Example] = []
    for record in random.Random(seed).sample(records, min(SAMPLE, len(records))):
        if time.monotonic() > ends:
            break
        with suppress(RowError):
            found += alone.encode([record], with_targets=True).examples
    return found


def _rows_of(assembly: Assembly, target: str, examples: ExampleStore | Sequence[Example], some: Sequence[int]) -> _Rows:
    """What the additive model of a target is fitted to."""
    group = assembly.model.additive[target]
    embedder, sums = assembly.model.adder_of(target)
    batch = _batch(examples, some, group)
    cells = embedder.cells_of(batch.groups[group].to(sums.bias.device))
    cells, mask = Cells(*(tensor.cpu() for tensor in cells)), batch.groups[group].mask
    design = sums.design(cells, mask)
    codes = cells.codes.new_zeros(design.shape[:2]).scatter(1, cells.columns, cells.codes.masked_fill(~mask, 0))
    return _Rows(
        assembly.model.head_of(target), batch.targets[target], batch.weights, design.permute(1, 2, 0).contiguous(),
        codes.T.contiguous(), sums.levels.num_embeddings, torch.zeros(len(design), sums.num_outputs),
    )  # fmt: skip


def _batch(store: ExampleStore | Sequence[Example], rows: Sequence[int], group: str) -> Batch:
    examples = (store[i] for i in rows)
    return Batch.collate([replace(e, groups={group: e.groups[group]}, positives={}) for e in examples])


def _add_means(
    assembly: Assembly, target: str, rows: _Rows, answered: Tensor, store: ExampleStore, sample: Sequence[int],
    *, until: float,
) -> None:  # fmt: skip
    """Fits what the means of the backbones' tokens add to what the table has ``answered`` (n, outputs) already, where
    that helps on rows left out. The backbones read ``BACKBONE_TOKENS`` at most for it, unless their features are there.
    """
    costs = np.cumsum(store.lengths[list(sample)])
    linears = assembly.model.means_of(target)
    computed = all("features" in store[0].groups.get(name, ()) for name in linears)
    count = len(sample) if computed else max(1, int(np.searchsorted(costs, BACKBONE_TOKENS)))
    means = _means(assembly, store, sample[:count], list(linears))
    scaled, moments = [], []
    for mean, there in means.values():
        center = mean[there].mean(0) if there.any() else mean.new_zeros(mean.shape[1])
        spread = (mean[there] - center).square().mean(0).sqrt() if there.any() else mean.new_ones(mean.shape[1])
        spread = spread.clamp(min=0.1 * float(spread.mean()) + 1e-6)  # one that hardly varies is not blown up
        scaled.append((mean - center) / spread * there[:, None])
        moments.append((center, spread))
    few = _batch(store, sample[:count], assembly.model.additive[target])
    none = torch.zeros(1, count, dtype=torch.int64)
    design = torch.cat(scaled, 1).T[None].contiguous()
    rest = _Rows(rows.head, few.targets[target], few.weights, design, none, 1, answered[:count])
    tried = STRENGTHS if until == float("inf") else IN_TIME
    weights, _ = _fit(rest, [10 * strength for strength in tried], or_nothing=True, until=until)
    parts = weights.design[0].split([len(center) for center, _ in moments])
    with torch.no_grad():
        for linear, part, (center, spread) in zip(linears.values(), parts, moments, strict=True):
            linear.weight.copy_((part / spread[:, None]).T)
            linear.bias.copy_(-(center / spread) @ part)
        bias = assembly.model.adder_of(target)[1].bias
        bias.add_(weights.bias.to(bias))


@torch.no_grad()
def _means(
    assembly: Assembly, store: ExampleStore, rows: Sequence[int], groups: Sequence[str]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Modality → (n, D) the mean of its tokens before any attention between modalities; (n,) whether it is there."""
    model, device = assembly.model.eval(), next(assembly.model.parameters()).device
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for ids in token_budget_batches(store.lengths[list(rows)], assembly.runner.batch_tokens, seed=None):
        batch = Batch.collate([replace(store[rows[i]], targets={}, positives={}) for i in ids])
        for name in groups:
            embedded = model.embedder_of(name)(batch.groups[name].to(device))
            mean = masked_mean(embedded.tokens, embedded.mask).float().cpu()
            all_of_it = found.setdefault(
                name, (mean.new_zeros(len(rows), mean.shape[1]), torch.zeros(len(rows), dtype=torch.bool))
            )
            all_of_it[0][ids], all_of_it[1][ids] = mean, embedded.mask.any(1).cpu()
    return found


class _Weights(NamedTuple):
    """As ``CellSums`` has them: of the design (C, F, outputs + factors), of the codes (codes, outputs + factors), the
    bias (outputs,), and how the factors are mixed (factors, outputs), None where there are none.
    """

    design: Tensor
    levels: Tensor
    bias: Tensor
    mix: Tensor | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> _Weights:
        mix = None if self.mix is None else change(self.mix)
        return _Weights(change(self.design), change(self.levels), change(self.bias), mix)

    def with_factors(self, rank: int, *, seed: int) -> _Weights:
        """Followed by small random ones. seed: of these."""
        drawn = torch.Generator().manual_seed(seed)
        design, levels = (
            torch.cat([part, FIRST_FACTORS * torch.randn(*part.shape[:-1], rank, generator=drawn)], -1)
            for part in (self.design, self.levels)
        )
        levels[0] = 0.0  # no code
        return _Weights(design, levels, self.bias, torch.randn(rank, len(self.bias), generator=drawn) / rank**0.5)


@dataclass(frozen=True)
class _Rows:
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

    def part(self, of: Tensor) -> _Rows:
        """of: (n,), those that are wanted."""
        labels = {name: tensor[of] for name, tensor in self.labels.items()}
        return replace(
            self, labels=labels, weights=self.weights[of], design=self.design[..., of], codes=self.codes[:, of],
            offset=self.offset[of],
        )  # fmt: skip

    def parted(self, fold: int) -> tuple[_Rows, _Rows]:
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
    def zero(self) -> _Weights:
        (columns, width, _), outputs = self.design.shape, self.offset.shape[1]
        design, levels = torch.zeros(columns, width, outputs), torch.zeros(self.num_codes, outputs)
        return _Weights(design, levels, torch.zeros(outputs))

    def logits(self, weights: _Weights) -> Tensor:
        z = torch.bmm(weights.design.transpose(1, 2), self.design) + self.levels.of(weights.levels)
        answered = self.offset + weights.bias
        if weights.mix is None:
            return answered + z.sum(0).T
        alone, factors = z.split([len(weights.bias), len(weights.mix)], dim=1)
        return answered + alone.sum(0).T + by_twos(factors.permute(2, 0, 1)) @ weights.mix

    def loss(self, weights: _Weights) -> Tensor:
        losses = self.head.loss({"logits": self.logits(weights)}, self.labels, self.weights)
        return torch.stack([*losses.values()]).sum()

    def minimum(self, start: _Weights, strength: float, *, until: float = float("inf")) -> _Weights:
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


def _fit(rows: _Rows, strengths: Sequence[float], *, until: float, or_nothing: bool = False) -> tuple[_Weights, float]:
    """The weights, and the λ by which rows that were left out have the least loss. or_nothing: zeros, and an infinite
    λ, where none is better. until: the time, by ``time.monotonic``, from which on no further rows are left out.
    """
    losses, nothing = np.zeros(len(strengths)), 0.0
    starts: list[_Weights] = []
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


def _with_pairs(rows: _Rows, alone: _Weights, strength: float, rank: int, *, seed: int, until: float) -> _Weights:
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
