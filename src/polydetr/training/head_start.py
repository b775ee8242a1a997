"""Classification heads begin as a logistic regression on what the untrained model makes of the rows, then everything is
tuned (LP-FT: Kumar et al. 2022, arXiv 2202.10054): a random head would first pull a pretrained backbone out of shape.

The features are the model's own pooled vectors, behind the shared encoder, which over a pretrained backbone begins as
the identity. So the regression is the head's linear layer, and the run starts with its accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from polydetr.core.examples import IGNORE_INDEX, Example
from polydetr.data.batching import token_budget_batches
from polydetr.data.store import ExampleStore
from polydetr.heads.classification import ClassificationHead
from polydetr.modalities.base import Notify
from polydetr.model.build import Assembly
from polydetr.model.runner import TorchRunner
from polydetr.training.linear_head import (
    Array,
    Features,
    Labels,
    LinearHead,
    choose_head,
    fit_logistic,
    stratified_folds,
)

MOST_ROWS = 2000
"""Rows that the regression is fitted on: a start, which costs less than a tenth of an epoch where there are many."""
_COARSE = (0.01, 0.1, 1.0)
_FEW = 500
"""From so many rows on one fold is held out, not each in turn, and fewer strengths are tried."""


def start_heads(
    assembly: Assembly,
    rows: ExampleStore | Sequence[Example],
    *,
    seed: int,
    notify: Notify,
    most: int | None = None,
    quick: bool = False,
) -> bool:
    """Sets every classification head over a pretrained backbone to a logistic regression on the pooled features of
    ``rows``, ``MOST_ROWS`` (and ``most``) of them at most. Returns whether a head was set. quick: however few the rows
    are, one part of them is held out to choose by.
    """
    heads = heads_to_start(assembly)
    if not heads:
        return False
    numbers = np.random.default_rng(seed).permutation(len(rows))[: min(most or MOST_ROWS, MOST_ROWS)]
    examples = [rows[int(i)] for i in numbers]
    features = pooled_features(assembly.runner, examples)
    row_of = _rows_of(rows.weights if isinstance(rows, ExampleStore) else [e.weight for e in rows])[numbers]
    started = False
    for target, head in heads.items():
        known, labels = labels_of(head, target, examples)
        classes = np.flatnonzero(labels.y.any(0))  # others would be pushed away without end
        if len(set(row_of[known])) < 2 or (len(classes) < 2 and not head.multi_label):
            continue
        fitted = _fitted(features[known], _of_classes(labels, classes), row_of[known], seed=seed, quick=quick)
        set_head(head, fitted, classes)
        started = True
        accuracy = float(_of_classes(labels, classes).right(fitted.logits(features[known])).mean())
        notify(
            f"the head of {target!r} begins as a logistic regression on the pretrained features of {len(known)} rows "
            f"(accuracy there {accuracy:.3f})"
        )
    return started


def heads_to_start(assembly: Assembly) -> dict[str, ClassificationHead]:
    """The heads that ``start_heads`` sets, by target, from now on without dropout: a regression on features whose mean
    is far from zero, as that of many encoders is, answers at random where some of them are left out.
    """
    if not any(m.is_pretrained for m in assembly.engine.encoder.modalities.values()):
        return {}
    # Beside a table the head adds to what the table says, and begins with nothing (``start``).
    found = {t: assembly.model.head_of(t) for t in assembly.engine.tasks if t not in assembly.model.additive}
    heads = {target: head for target, head in found.items() if isinstance(head, ClassificationHead)}
    for head in heads.values():
        head.dropout.p = 0.0
    return heads


def _rows_of(weights: Sequence[float] | np.ndarray) -> np.ndarray:
    """(windows,) the number of each one's row: a row's windows follow one another and weigh 1 together."""
    exact = 1 / np.round(1 / np.asarray(weights, dtype=np.float64))  # a third is none in float32
    return (np.cumsum(exact) - exact / 2).astype(np.int64)


def _fitted(features: Array, labels: Labels, row_of: np.ndarray, *, seed: int, quick: bool) -> LinearHead:
    """row_of: the rows that the features are windows of, which are dealt into folds whole."""
    many = quick or len(labels) >= _FEW
    number: dict[int, int] = {}
    place_of = np.array([number.setdefault(int(row), len(number)) for row in row_of])
    first = np.unique(place_of, return_index=True)[1]
    folds = stratified_folds(labels.of(first), seed=seed)[place_of]
    if many:  # the rows of fold 0 alone are held out
        train, held = np.flatnonzero(folds > 0), np.flatnonzero(folds == 0)
        heads = [fit_logistic(features[train], labels.of(train), strength=c, tolerance=1e-4) for c in _COARSE]
        losses = [float(labels.of(held).losses(head.logits(features[held])).mean()) for head in heads]
        best = int(np.argmin(losses))
        return fit_logistic(features, labels, strength=_COARSE[best], start=heads[best], tolerance=1e-5)
    own = Features(features)
    return choose_head([own] * len(np.unique(folds)), labels, folds).recipe.fit(own, labels)


def _of_classes(labels: Labels, classes: np.ndarray) -> Labels:
    balance = None if labels.balance is None else labels.balance[classes]
    return Labels(labels.y[:, classes], labels.several, labels.weights, balance)


def labels_of(head: ClassificationHead, target: str, examples: Sequence[Example]) -> tuple[np.ndarray, Labels]:
    """The numbers of the examples that have a label of ``target``, and what it is."""
    targets = [example.targets[target] for example in examples]
    if head.multi_label:
        known = np.flatnonzero([float(t["known"]) > 0 for t in targets])
        y = np.array([targets[i]["labels"] for i in known.tolist()], dtype=np.float64).reshape(
            -1, head.output.out_features
        )
    else:
        numbers = np.array([int(t["label"]) for t in targets], dtype=np.int64)
        known = np.flatnonzero(numbers != IGNORE_INDEX)
        y = np.eye(head.output.out_features)[numbers[known]]
    weights = np.array([examples[i].weight for i in known.tolist()], dtype=np.float64)
    balance = np.array(head.class_weights) if head.class_weights else None
    return known, Labels(y, head.multi_label, weights, balance)


@torch.no_grad()
def set_head(head: ClassificationHead, fitted: LinearHead, classes: np.ndarray | None = None) -> None:
    """Makes the head's linear layer this one. classes: those that it knows; the others are the least likely of all."""
    known = np.arange(head.output.out_features) if classes is None else classes
    weight = np.zeros(tuple(head.output.weight.shape))
    bias = np.full(len(weight), fitted.bias.min())
    weight[known], bias[known] = fitted.weight, fitted.bias
    head.output.weight.copy_(torch.from_numpy(weight))
    head.output.bias.copy_(torch.from_numpy(bias))


def pooled_features(runner: TorchRunner, examples: Sequence[Example], *, batch_tokens: int = 1024) -> Array:
    """(N, D) float64: the pooled vector of each example, as the model's heads read it, without dropout."""
    model = runner.model
    was_training = model.training
    model.eval()
    found = np.empty((len(examples), model.embed_dim))
    with torch.inference_mode():
        for ids in token_budget_batches([e.num_tokens for e in examples], batch_tokens, seed=None):
            pooled = model.encode(runner.batch([examples[i] for i in ids], ids)).pooled
            found[ids] = pooled.double().cpu().numpy()
    model.train(was_training)
    return found
