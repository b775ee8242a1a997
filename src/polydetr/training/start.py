"""What a run begins with: of a table, the additive model (``nn.numbers.CellSums``), fitted before the first step.

    min over w and b:  L(s(w) + b) + λ / 2n · |w|²

L is the head's own loss, a mean over n rows: logistic or Huber regression, which is convex in w, so that L-BFGS (Liu &
Nocedal 1989) finds the minimum in a second. λ is the one with the least loss on rows that were left out. Training then
goes on from there with all weights, as linear probing followed by fine-tuning does (Kumar et al. 2022, arXiv
2202.10054); the validation rows choose the start itself where nothing improves on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from polydetr.data.store import ExampleStore
from polydetr.heads.base import Head
from polydetr.model.build import Assembly
from polydetr.nn.batch import Batch, TokenGroup
from polydetr.nn.numbers import Cells, CellSums

SAMPLE = 10_000
"""Rows at most from which it is fitted: it has few weights, and more rows would hardly move them."""
MOST_NUMBERS = 30_000_000
"""That are held at a time, which bounds the rows of wide tables."""
STRENGTHS = (1000.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
"""The values of λ that are tried, the strongest first: each fit begins where the one before it ended."""
FOLDS, ONE_FOLD_FROM = 5, 2000
"""Parts of the rows of which each is left out once; from so many rows on, one part alone."""
ITERATIONS = 100


def start_from_tables(assembly: Assembly, store: ExampleStore, *, seed: int) -> dict[str, float]:
    """Fits what cells add up to, of every target that has it (``PolyModel.additive``), while the rest of the network
    adds nothing yet. Returns target → λ.
    """
    model = assembly.model
    if not model.additive:
        return {}
    model.open_gate(0.0)
    order = np.random.default_rng(seed).permutation(len(store)).tolist()
    chosen: dict[str, float] = {}
    for target, group in model.additive.items():
        embedder, sums = model.adder_of(target)
        sample = order[: max(1, min(SAMPLE, MOST_NUMBERS // sums.num_designed))]
        rows = _Rows(model.head_of(target), target, embedder.cells_of, sums, _batch(store, sample, group))
        if not float(rows.counted(rows.all)):
            continue
        weights, chosen[target] = _fit(rows)
        with torch.no_grad():
            for part, value in zip((sums.lines, sums.curves), sums.designed(weights.design), strict=True):
                part.weight.copy_(value)
            sums.levels.weight.copy_(weights.levels)
            sums.bias.copy_(weights.bias)
    return chosen


def _batch(store: ExampleStore, rows: Sequence[int], group: str) -> Batch:
    examples = (store[i] for i in rows)
    return Batch.collate([replace(e, groups={group: e.groups[group]}, positives={}) for e in examples])


class _Weights(NamedTuple):
    """Of an additive model: of the design (F, outputs), of the codes (codes, outputs), and the bias (outputs,)."""

    design: Tensor
    levels: Tensor
    bias: Tensor


class _Rows:
    """The rows of a fit: what their cells are multiplied with, and the loss of the head on them; on the CPU."""

    def __init__(
        self, head: Head, target: str, cells_of: Callable[[TokenGroup], Cells], sums: CellSums, batch: Batch
    ) -> None:
        self.head, self.batch, self.labels = head, batch, batch.targets[target]
        (group,) = batch.groups.values()
        device = sums.lines.weight.device
        cells = Cells(*(tensor.cpu() for tensor in cells_of(group.to(device))))
        self.design = sums.design(cells, group.mask)
        self.codes = cells.codes.masked_fill(~group.mask, 0)
        self.all = torch.arange(len(batch.weights))
        self.zero = _Weights(
            torch.zeros(self.design.shape[1], sums.num_outputs),
            torch.zeros(sums.levels.num_embeddings, sums.num_outputs),
            torch.zeros(sums.num_outputs),
        )

    def counted(self, index: Tensor) -> Tensor:
        return self.head.counted({n: t[index] for n, t in self.labels.items()}, self.batch.weights[index])

    def loss(self, weights: _Weights, index: Tensor) -> Tensor:
        levels = F.embedding_bag(self.codes[index], weights.levels, mode="sum", padding_idx=0)
        logits = self.design[index] @ weights.design + levels + weights.bias
        labels = {name: tensor[index] for name, tensor in self.labels.items()}
        return torch.stack([*self.head.loss({"logits": logits}, labels, self.batch.weights[index]).values()]).sum()

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


def _fit(rows: _Rows) -> tuple[_Weights, float]:
    """The weights, and the λ by which rows that were left out have the least loss."""
    losses = np.zeros(len(STRENGTHS))
    for fold in range(1 if len(rows.all) >= ONE_FOLD_FROM else FOLDS):
        out = rows.all % FOLDS == fold
        kept, held = rows.all[~out], rows.all[out]
        weights = rows.zero
        for i, strength in enumerate(STRENGTHS) if float(rows.counted(kept)) else ():
            weights = rows.minimum(weights, strength, kept)
            losses[i] += float(rows.loss(weights, held) * rows.counted(held))
    best = int(losses.argmin())
    weights = rows.zero
    for strength in STRENGTHS[: best + 1]:
        weights = rows.minimum(weights, strength, rows.all)
    return weights, STRENGTHS[best]
