"""The logistic regression of heads: its minimum, its cross-validation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from tiny_runs import labels_of_classes

from polydetr.training.linear_head import (
    Features,
    Labels,
    Recipe,
    calibrated_loss,
    choose_head,
    fit_logistic,
    parted,
    stratified_folds,
)

N, D, C = 61, 7, 5


def blobs(seed: int = 0, spread: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Features far from zero, as an encoder's are, and class numbers."""
    rng = np.random.default_rng(seed)
    numbers = np.arange(N) % C
    centers = rng.normal(size=(C, D))
    return 3.0 + 0.2 * (centers[numbers] + spread * rng.normal(size=(N, D))), numbers


def in_unit_scale(features: np.ndarray) -> np.ndarray:
    centered = features - features.mean(0)
    return centered / np.sqrt((centered**2).mean())


@pytest.mark.parametrize("strength", [0.03, 1.0])
def test_it_is_the_minimum_that_scikit_learn_finds(strength):
    features, numbers = blobs()
    found = fit_logistic(features, labels_of_classes(numbers, C), strength=strength, tolerance=1e-9)
    expected = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000).fit(in_unit_scale(features), numbers)
    logits = expected.decision_function(in_unit_scale(features))
    np.testing.assert_allclose(
        found.logits(features) - found.logits(features).mean(1, keepdims=True), logits, atol=1e-4
    )


def test_balanced_classes_weigh_as_in_scikit_learn():
    features, numbers = blobs()
    numbers = np.where(numbers > 2, 0, numbers)
    balance = len(numbers) / (3 * np.bincount(numbers))
    labels = Labels(np.eye(3)[numbers], several=False, weights=np.ones(N), balance=balance)
    found = fit_logistic(features, labels, strength=1.0, tolerance=1e-9).logits(features)
    expected = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000, class_weight="balanced")
    logits = expected.fit(in_unit_scale(features), numbers).decision_function(in_unit_scale(features))
    np.testing.assert_allclose(found - found.mean(1, keepdims=True), logits, atol=1e-4)


def test_several_labels_are_one_regression_each():
    features, numbers = blobs()
    y = np.stack([numbers % 2 == 0, numbers > 2], 1).astype(float)
    found = fit_logistic(features, Labels(y, True, np.ones(N)), strength=0.5, tolerance=1e-9).logits(features)
    for label in range(2):
        expected = LogisticRegression(C=0.5, tol=1e-10, max_iter=10_000).fit(in_unit_scale(features), y[:, label])
        np.testing.assert_allclose(found[:, label], expected.decision_function(in_unit_scale(features)), atol=1e-4)


def test_a_row_of_weight_two_is_two_rows():
    features, numbers = blobs()
    weights = np.where(np.arange(N) < 10, 2.0, 1.0)
    rows = np.r_[np.arange(10), np.arange(N)]
    center, labels = features.mean(0), labels_of_classes(numbers, C)
    # The scale of the features, which doubling would change, is held by a regression without a pull.
    weighted = fit_logistic(features, Labels(labels.y, False, weights), strength=1e6, tolerance=1e-8)
    doubled = fit_logistic(features[rows], labels.of(rows), strength=1e6, tolerance=1e-8)
    assert weighted.loss == pytest.approx(doubled.loss, abs=1e-3)
    assert (weighted.logits(center[None]).argmax() == doubled.logits(center[None]).argmax()).all()


def test_folds_have_their_share_of_every_class():
    numbers = np.repeat(np.arange(6), 8)
    folds = stratified_folds(labels_of_classes(numbers, 6), 4, seed=1)
    assert [[int(((numbers == c) & (folds == f)).sum()) for f in range(4)] for c in range(6)] == [[2] * 4] * 6
    pairs = stratified_folds(labels_of_classes(np.repeat(np.arange(9), 2), 9), 4)
    assert all(pairs[i] != pairs[i + 1] for i in range(0, 18, 2))
    for rows, held in parted(folds):
        assert sorted([*rows, *held]) == list(range(48))


def test_noise_is_regularized_more_than_signal():
    clear, numbers = blobs(spread=0.2)
    noisy, _ = blobs(spread=6.0)
    labels = labels_of_classes(numbers, C)
    folds = stratified_folds(labels)
    of_clear = choose_head([Features(clear)] * 5, labels, folds)
    of_noisy = choose_head([Features(noisy)] * 5, labels, folds)
    assert of_noisy.recipe.strength < of_clear.recipe.strength
    assert of_clear.accuracy == 1.0 > of_noisy.accuracy


def test_held_out_logits_are_of_heads_that_had_not_seen_the_row():
    features, numbers = blobs()
    labels = labels_of_classes(numbers, C)
    folds = stratified_folds(labels, 3)
    chosen = choose_head([Features(features)] * 3, labels, folds, strengths=[0.3])
    rows, held = next(parted(folds))
    head = fit_logistic(features[rows], labels.of(rows), strength=0.3)
    np.testing.assert_allclose(chosen.logits[held], head.logits(features[held]), atol=1e-2)


def test_names_of_classes_are_rows_that_help_where_rows_are_few():
    rng = np.random.default_rng(0)
    centers, numbers = rng.normal(size=(C, D)), np.repeat(np.arange(C), 2)
    features = centers[numbers] + 1.2 * rng.normal(size=(len(numbers), D))
    tests, gold = centers[np.arange(500) % C] + 1.2 * rng.normal(size=(500, D)), np.arange(500) % C
    own = Features(features, names=centers + 100.0)  # elsewhere, as single words are
    labels = labels_of_classes(numbers, C)
    without, beside = (Recipe(1.0, weight).fit(own, labels).logits(tests) for weight in (0.0, 3.0))
    assert (beside.argmax(1) == gold).mean() > (without.argmax(1) == gold).mean() + 0.05
    folds = stratified_folds(labels, 2)
    assert choose_head([own] * 2, labels, folds, name_weights=(0.0, 3.0)).recipe.name_weight == 3.0


def test_a_temperature_does_not_change_the_loss_that_chooses():
    features, numbers = blobs()
    labels = labels_of_classes(numbers, C)
    logits = fit_logistic(features, labels, strength=0.1).logits(features)
    assert calibrated_loss(2.0 * logits, labels) == pytest.approx(calibrated_loss(logits, labels), abs=5e-3)
