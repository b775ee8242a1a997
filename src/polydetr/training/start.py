"""What a run begins with: of a table, the additive model (``nn.numbers.CellSums``), fitted before the first step.

    min over w and b:  L(s(w) + b) + λ / 2n · |w|²

L is the head's own loss, a mean over n rows: logistic or Huber regression, which is convex in w, so that L-BFGS (Liu &
Nocedal 1989) finds the minimum in a second. λ is the one with the least loss on rows that were left out. Training then
goes on from there with all weights, as linear probing followed by fine-tuning does (Kumar et al. 2022, arXiv
2202.10054); the validation rows choose the start itself where nothing improves on it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

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
from polydetr.nn.numbers import Cells
from polydetr.nn.pooling import masked_mean

SAMPLE = 10_000
"""Rows at most from which it is fitted: it has few weights, and more rows would hardly move them."""
MOST_NUMBERS = 30_000_000
"""That are held at a time, which bounds the rows of wide tables."""
STRENGTHS = (1000.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
"""The values of λ that are tried, the strongest first: each fit begins where the one before it ended."""
IN_TIME = (100.0, 10.0, 1.0)
"""Those that are tried under a time limit, all of them however little time there is."""
FOLDS, ONE_FOLD_FROM = 5, 2000
"""Parts of the rows of which each is left out once; from so many rows on, one part alone."""
ITERATIONS = 100
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
        few = max(1, min(SAMPLE, MOST_NUMBERS // sums.num_designed))
        rows = (
            _rows_of(assembly, target, cells, of_table[:few])
            if of_table
            else _rows_of(assembly, target, store, order[:few])
        )
        if not float(rows.counted(rows.all)):
            continue
        weights, chosen[target] = _fit(rows, STRENGTHS if seconds is None else IN_TIME, until=until)
        with torch.no_grad():
            for part, value in zip((sums.lines, sums.curves), sums.designed(weights.design), strict=True):
                part.weight.copy_(value)
            sums.levels.weight.copy_(weights.levels)
            sums.bias.copy_(weights.bias)
        if model.means_of(target):
            sample = order[:few]
            own = _rows_of(assembly, target, store, sample) if of_table else rows
            _add_means(assembly, target, own, own.logits(weights, own.all), store, sample[:most], until=until)
    return chosen


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
    codes = cells.codes.masked_fill(~mask, 0)
    head, outputs = assembly.model.head_of(target), sums.num_outputs
    return _Rows(head, target, batch, sums.design(cells, mask), codes, sums.levels.num_embeddings, outputs)


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
    none = torch.zeros(count, 1, dtype=torch.int64)
    rest = _Rows(rows.head, target, few, torch.cat(scaled, 1), none, 1, answered.shape[1], offset=answered[:count])
    tried = STRENGTHS if until == float("inf") else IN_TIME
    weights, _ = _fit(rest, [10 * strength for strength in tried], or_nothing=True, until=until)
    parts = weights.design.split([len(center) for center, _ in moments])
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
    """Of an additive model: of the design (F, outputs), of the codes (codes, outputs), and the bias (outputs,)."""

    design: Tensor
    levels: Tensor
    bias: Tensor


class _Rows:
    """The rows of a fit: what the weights are multiplied with, and the loss of the head on them; on the CPU.

    design (n, F); codes (n, L), 0 for none; offset (n, outputs): what is answered already.
    """

    def __init__(
        self, head: Head, target: str, batch: Batch, design: Tensor, codes: Tensor, num_codes: int, num_outputs: int, *,
        offset: Tensor | None = None,
    ) -> None:  # fmt: skip
        self.head, self.batch, self.labels = head, batch, batch.targets[target]
        self.design, self.codes = design, codes
        self.offset = torch.zeros(len(design), num_outputs) if offset is None else offset
        self.all = torch.arange(len(design))
        self.zero = _Weights(
            torch.zeros(design.shape[1], num_outputs), torch.zeros(num_codes, num_outputs), torch.zeros(num_outputs)
        )

    def counted(self, index: Tensor) -> Tensor:
        return self.head.counted({n: t[index] for n, t in self.labels.items()}, self.batch.weights[index])

    def logits(self, weights: _Weights, index: Tensor) -> Tensor:
        levels = F.embedding_bag(self.codes[index], weights.levels, mode="sum", padding_idx=0)
        return self.offset[index] + self.design[index] @ weights.design + levels + weights.bias

    def loss(self, weights: _Weights, index: Tensor) -> Tensor:
        labels = {name: tensor[index] for name, tensor in self.labels.items()}
        outputs = {"logits": self.logits(weights, index)}
        return torch.stack([*self.head.loss(outputs, labels, self.batch.weights[index]).values()]).sum()

    def minimum(self, start: _Weights, strength: float, index: Tensor) -> _Weights:
        weights = _Weights(*(tensor.clone().requires_grad_() for tensor in start))
        pull = strength / (2 * float(self.counted(index)))
        search = torch.optim.LBFGS(weights, max_iter=ITERATIONS, history_size=20, line_search_fn="strong_wolfe")

        def objective() -> Tensor:
            search.zero_grad()
            penalty = weights.design.square().sum() + weights.levels.square().sum()
            value = self.loss(weights, index) + pull * penalty
            value.backward()
            return value

        with torch.enable_grad():
            search.step(objective)
        return _Weights(*(tensor.detach() for tensor in weights))


def _fit(rows: _Rows, strengths: Sequence[float], *, until: float, or_nothing: bool = False) -> tuple[_Weights, float]:
    """The weights, and the λ by which rows that were left out have the least loss. or_nothing: zeros, and an infinite
    λ, where none is better. until: the time, by ``time.monotonic``, from which on no further rows are left out.
    """
    losses, nothing = np.zeros(len(strengths)), 0.0
    starts: list[_Weights] = []
    for fold in range(1 if len(rows.all) >= ONE_FOLD_FROM else FOLDS):
        if fold and time.monotonic() > until:
            break
        out = rows.all % FOLDS == fold
        kept, held = rows.all[~out], rows.all[out]
        weights, count = rows.zero, rows.counted(held)
        nothing += float(rows.loss(weights, held) * count)
        for i, strength in enumerate(strengths) if float(rows.counted(kept)) else ():
            weights = rows.minimum(weights, strength, kept)
            losses[i] += float(rows.loss(weights, held) * count)
            starts += [] if fold else [weights]
    best = int(losses.argmin())
    if or_nothing and losses[best] >= nothing:
        return rows.zero, float("inf")
    if starts and time.monotonic() > until:  # from where the first fold came to
        return rows.minimum(starts[best], strengths[best], rows.all), strengths[best]
    weights = rows.zero
    for strength in strengths[: best + 1]:
        weights = rows.minimum(weights, strength, rows.all)
    return weights, strengths[best]
