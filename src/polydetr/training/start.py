"""What a run begins with: of a table, the additive model (``training.additive``), fitted before the first step, and of
backbones beside it what their mean tokens add. Training goes on from there with all weights, as linear probing followed
by fine-tuning does (Kumar et al. 2022, arXiv 2202.10054); the validation rows choose the start itself where nothing
improves on it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

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
from polydetr.model.build import Assembly
from polydetr.nn.batch import Batch
from polydetr.nn.numbers import Cells, CellSums
from polydetr.nn.pooling import masked_mean
from polydetr.training.additive import DesignedRows, Weights, fit, fit_with_pairs

SAMPLE = 10_000
"""Rows at most from which it is fitted: it has few weights, and more rows would hardly move them."""
MOST_NUMBERS = 30_000_000
"""That are held at a time, which bounds the rows of wide tables."""
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
        weights, chosen[target] = fit(rows, until=until)
        if sums.mix is not None and time.monotonic() < until:
            weights = fit_with_pairs(rows, weights, chosen[target], sums.rank, seed=seed, until=until)
        _set(sums, weights)
        if model.means_of(target):
            sample = order[:few]
            own = _rows_of(assembly, target, store, sample) if of_table else rows
            _add_means(assembly, target, own, own.logits(weights), store, sample[:most], until=until)
    return chosen


@torch.no_grad()
def _set(sums: CellSums, weights: Weights) -> None:
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


def _rows_of(
    assembly: Assembly, target: str, examples: ExampleStore | Sequence[Example], some: Sequence[int]
) -> DesignedRows:
    """What the additive model of a target is fitted to."""
    group = assembly.model.additive[target]
    embedder, sums = assembly.model.adder_of(target)
    batch = _batch(examples, some, group)
    cells = embedder.cells_of(batch.groups[group].to(sums.bias.device))
    cells, mask = Cells(*(tensor.cpu() for tensor in cells)), batch.groups[group].mask
    design = sums.design(cells, mask)
    codes = cells.codes.new_zeros(design.shape[:2]).scatter(1, cells.columns, cells.codes.masked_fill(~mask, 0))
    return DesignedRows(
        assembly.model.head_of(target), batch.targets[target], batch.weights, design.permute(1, 2, 0).contiguous(),
        codes.T.contiguous(), sums.levels.num_embeddings, torch.zeros(len(design), sums.num_outputs),
    )  # fmt: skip


def _batch(store: ExampleStore | Sequence[Example], rows: Sequence[int], group: str) -> Batch:
    examples = (store[i] for i in rows)
    return Batch.collate([replace(e, groups={group: e.groups[group]}, positives={}) for e in examples])


def _add_means(
    assembly: Assembly, target: str, rows: DesignedRows, answered: Tensor, store: ExampleStore, sample: Sequence[int],
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
    rest = DesignedRows(rows.head, few.targets[target], few.weights, design, none, 1, answered[:count])
    weights, _ = fit(rest, times=10, or_nothing=True, until=until)
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
