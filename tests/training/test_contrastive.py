"""The contrastive stage: its loss by the formula, its batches, and that classes move apart."""

from __future__ import annotations

import math
from itertools import chain

import numpy as np
import pytest
import torch
from tiny_runs import film_rows

from polydetr.training.contrastive import (
    contrastive_loss,
    learned_below_heads,
    paired_batches,
    put_back,
    shared_labels,
    tune_backbone,
)
from polydetr.training.head_start import pooled_features
from tiny_models import encode_all, make_assembly


def test_the_loss_is_the_formula_term_by_term():
    torch.manual_seed(0)
    vectors, numbers = torch.randn(7, 3, dtype=torch.float64), [0, 0, 1, 1, 1, 2, 0]
    shared = torch.tensor([[float(a == b) for b in numbers] for a in numbers])
    z = [(v / v.norm()).tolist() for v in vectors]
    rows = []
    for i in range(7):
        raised = {k: math.exp(sum(a * b for a, b in zip(z[i], z[k], strict=True)) / 0.1) for k in range(7) if k != i}
        positives = [k for k in raised if numbers[k] == numbers[i]]
        if positives:
            total = sum(raised.values())
            rows.append(-sum(math.log(raised[k] / total) for k in positives) / len(positives))
    assert float(contrastive_loss(vectors, shared)) == pytest.approx(sum(rows) / len(rows), rel=1e-5)


def test_rows_without_a_partner_teach_nothing():
    vectors = torch.randn(4, 3, requires_grad=True)
    loss = contrastive_loss(vectors, torch.eye(4))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert vectors.grad is not None
    assert not vectors.grad.any()


def test_labels_are_shared_by_their_part():
    y = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]], dtype=float)
    assert shared_labels(y)[0].tolist() == [1, 0.5, 0, 0, 0]
    assert shared_labels(y)[3].tolist() == [0, 0, 0, 1, 1]


def test_an_epoch_has_every_row_once_and_pairs_of_a_class():
    numbers = np.arange(154) % 77
    batches = list(paired_batches(np.eye(77)[numbers], seed=0, epoch=0))
    assert sorted(chain(*batches)) == list(range(154))
    assert {len(b) for b in batches} == {76, 78}
    assert all(numbers[b[i]] == numbers[b[i + 1]] for b in batches for i in range(0, len(b), 2))
    assert batches != list(paired_batches(np.eye(77)[numbers], seed=0, epoch=1))


def test_classes_move_apart_and_weights_can_be_put_back():
    assembly = make_assembly(film_rows(40), {"label": "classification"})
    examples = encode_all(assembly.engine, film_rows(40), with_targets=True)
    numbers = np.arange(40) % 2
    before = learned_below_heads(assembly.model)

    def separation() -> float:
        z = pooled_features(assembly.runner, examples)
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        cosine, same = z @ z.T, numbers[:, None] == numbers
        return float(cosine[same].mean() - cosine[~same].mean())

    first = separation()
    epochs = []

    def go_on(epoch: int) -> bool:
        epochs.append(epoch)
        return epoch < 30

    tune_backbone(assembly.runner, examples, np.eye(2)[numbers], epochs=40, seed=0, after_epoch=go_on, lr=5e-3)
    assert epochs == list(range(1, 31))
    assert separation() > first + 0.2
    put_back(assembly.model, before)
    assembly.model.train()
    assembly.model.eval()
    assert separation() == pytest.approx(first, abs=1e-6)
