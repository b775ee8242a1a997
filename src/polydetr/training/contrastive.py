"""A contrastive stage before the classifier, for few rows: texts (pictures) of one class move together, others apart.

In the manner of SetFit (Tunstall et al. 2022, arXiv 2209.11055), whose pairs are here all pairs of a batch at once, by
the supervised contrastive loss (Khosla et al. 2020, arXiv 2004.11362, eq. 2): a row is read once per epoch, not once
per pair. With z a row's pooled vector at length 1, and S_ij how much of their labels two rows share (1 for one class, 0
for two),

    L = -mean_i Σ_{j≠i} S_ij log( exp(z_i·z_j / τ) / Σ_{k≠i} exp(z_i·z_k / τ) ) / Σ_{j≠i} S_ij
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from polydetr.core.examples import Example
from polydetr.data.batching import token_budget_batches
from polydetr.model.model import PolyModel
from polydetr.model.runner import TorchRunner
from polydetr.training.linear_head import Array
from polydetr.training.optimizer import MasterAdamW, parameter_groups

TEMPERATURE = 0.1
LEARNING_RATE = 1e-4
BATCH_ROWS = 64
"""Rows that are compared with one another: half of them bring a second one of their class."""
_WARMUP_STEPS = 5
_CHUNK_TOKENS = 512


def contrastive_loss(vectors: Tensor, shared: Tensor, *, temperature: float = TEMPERATURE) -> Tensor:
    """L of the vectors (B, D), with shared (B, B) in [0, 1]; zero, with a gradient, where no two rows share a label."""
    z = torch.nn.functional.normalize(vectors.float(), dim=1)
    own = torch.eye(len(z), dtype=torch.bool, device=z.device)
    log_p = (z @ z.T / temperature).masked_fill(own, float("-inf")).log_softmax(1).masked_fill(own, 0.0)
    shared = shared.masked_fill(own, 0.0)
    total = shared.sum(1)
    each = -(shared * log_p).sum(1) / total.clamp(min=1e-9)
    return (each * (total > 0)).sum() / (total > 0).sum().clamp(min=1)


def shared_labels(y: Array) -> Array:
    """(N, N): of the labels (N, C) of two rows, how many they share among all that they have (Jaccard)."""
    both = y @ y.T
    either = y.sum(1)[:, None] + y.sum(1)[None] - both
    return np.divide(both, either, out=(either == 0).astype(np.float64), where=either > 0)


def paired_batches(y: Array, *, seed: int, epoch: int) -> Iterator[list[int]]:
    """All rows, each once, in batches of about ``BATCH_ROWS`` in which rows of one class stand two by two."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(y))
    kind = np.unique(y, axis=0, return_inverse=True)[1].reshape(-1)
    order = order[np.argsort(kind[order], kind="stable")]
    cuts = [i for i in range(1, len(order)) if kind[order[i]] != kind[order[i - 1]]]
    pairs = [part[i : i + 2] for part in np.split(order, cuts) for i in range(0, len(part), 2)]
    count = max(1, round(len(y) / BATCH_ROWS))
    for numbers in np.array_split(rng.permutation(len(pairs)), min(count, len(pairs))):
        yield [int(row) for number in numbers for row in pairs[number]]


class Step(NamedTuple):
    """A step that was made. epoch: epochs done by then; tokens: that it read."""

    loss: float
    epoch: float
    tokens: int
    learning_rate: float


def tune_backbone(
    runner: TorchRunner, examples: Sequence[Example], y: Array, *, epochs: int, seed: int,
    after_epoch: Callable[[int], bool], after_step: Callable[[Step], None] = lambda step: None,
    lr: float = LEARNING_RATE,
) -> dict[str, Tensor]:  # fmt: skip
    """Tunes everything below the heads on the examples, of which y (N, C) are the labels; returns what was tuned, by
    name, in float32.

    The learning rate stays the same after the first steps, so that the first epochs of a longer stage are those of a
    shorter one. after_epoch: takes the number of epochs done, and says whether to go on.
    """
    model = runner.model
    shared = torch.from_numpy(shared_labels(y)).float()
    optimizer = MasterAdamW(_groups(model, lr=lr))
    torch.manual_seed(seed)
    steps = 0
    for epoch in range(epochs):
        batches = list(paired_batches(y, seed=seed, epoch=epoch))
        for number, rows in enumerate(batches, start=1):
            steps += 1
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * min(1.0, steps / _WARMUP_STEPS)
            model.train()
            order, pooled = _pooled(runner, [examples[i] for i in rows])
            numbers = torch.tensor([rows[i] for i in order])
            loss = contrastive_loss(pooled, shared[numbers][:, numbers].to(pooled.device))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            rate = max(group["lr"] for group in optimizer.param_groups)
            read = sum(examples[i].num_tokens for i in rows)
            after_step(Step(float(loss.detach()), epoch + number / len(batches), read, rate))
        model.eval()
        if not after_epoch(epoch + 1):
            break
    return optimizer.learned()


def _groups(model: PolyModel, *, lr: float = LEARNING_RATE) -> list[dict]:
    """The parameters below the heads, of which the backbone's word embeddings stay as they are."""
    heads = {id(p) for p in model.heads.parameters()}
    groups = parameter_groups(model, lr=lr, head_lr=lr, layer_decay=0.9, freeze_embeddings=True)
    for group in groups:
        kept = [(n, p) for n, p in zip(group["names"], group["params"], strict=True) if id(p) not in heads]
        group["names"], group["params"] = [n for n, _ in kept], [p for _, p in kept]
    return [group for group in groups if group["params"]]


def _pooled(runner: TorchRunner, examples: Sequence[Example]) -> tuple[list[int], Tensor]:
    """The pooled vectors of a batch, computed in chunks of like length, which need less padding; with their order."""
    order: list[int] = []
    parts: list[Tensor] = []
    for ids in token_budget_batches([e.num_tokens for e in examples], _CHUNK_TOKENS, seed=None):
        parts.append(runner.model.encode(runner.batch([examples[i] for i in ids], ids)).pooled)
        order += ids
    return order, torch.cat(parts)


def learned_below_heads(model: PolyModel) -> Mapping[str, Tensor]:
    """Copies of what ``tune_backbone`` changes, by name, in the model's precision."""
    names = {name for group in _groups(model) for name in group["names"]}
    return {name: p.detach().clone() for name, p in model.named_parameters() if name in names}


@torch.no_grad()
def put_back(model: PolyModel, weights: Mapping[str, Tensor]) -> None:
    """The inverse of ``learned_below_heads``."""
    parameters = dict(model.named_parameters())
    for name, weight in weights.items():
        parameters[name].copy_(weight)
