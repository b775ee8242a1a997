"""A linear classifier on fixed features: logistic regression, its strength chosen by cross-validation.

    J(W, b) = Σ_i w_i ℓ(W z_i + b, y_i) + s² ‖W‖² / (2 C)

ℓ is the cross-entropy of a softmax, or with several labels per row the sum of one binary cross-entropy per label; s,
the root mean square of the centered features, makes a strength mean the same for every backbone. J is convex, so that
its minimum (L-BFGS, full batch, float64; Liu and Nocedal 1989) depends on nothing but the rows.

Shapes: N rows, D features, C classes. Everything here is a pure function over NumPy arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from polydetr.nn.cpu.threads import each_on_a_core, numpy_on_one_core

Array = NDArray[np.float64]

STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""C, of the strongest regularization first."""
FOLDS = 5


@dataclass(frozen=True)
class Labels:
    """What the rows are: y (N, C), 1 where a row has the label. weights (N,); balance (C,): how much a class counts
    (a positive label, where rows have several).
    """

    y: Array
    several: bool
    weights: Array
    balance: Array | None = None

    def __len__(self) -> int:
        return len(self.y)

    def of(self, rows: NDArray[np.integer]) -> Labels:
        """The labels of these rows alone."""
        return replace(self, y=self.y[rows], weights=self.weights[rows])

    def and_also(self, other: Labels, *, weight: float) -> Labels:
        """Followed by other rows, which count ``weight`` times as much as they do."""
        return replace(self, y=np.r_[self.y, other.y], weights=np.r_[self.weights, weight * other.weights])

    def losses(self, logits: Array) -> Array:
        """(N,) of the logits (N, C), not weighted by row."""
        return self._losses_and_gradient(logits)[0]

    def right(self, logits: Array) -> NDArray[np.bool_]:
        """(N,) whether the answer is right: the whole set of labels, where rows have several."""
        if self.several:
            return ((logits > 0) == (self.y > 0)).all(1)
        return self.y[np.arange(len(self)), logits.argmax(1)] > 0

    def _losses_and_gradient(self, logits: Array) -> tuple[Array, Array]:
        scale = 1.0 if self.balance is None else self.balance
        if self.several:
            p = 0.5 * (1 + np.tanh(logits / 2))
            each = np.logaddexp(0, logits) - self.y * logits
            factor = np.where(self.y > 0, scale, 1.0)
            return (factor * each).sum(1), factor * (p - self.y)
        top = logits.max(1, keepdims=True)
        raised = np.exp(logits - top)
        total = raised.sum(1, keepdims=True)
        factor = (self.y * scale).sum(1)
        losses = (np.log(total) + top)[:, 0] - (self.y * logits).sum(1)
        return factor * losses, factor[:, None] * (raised / total - self.y)


@dataclass(frozen=True)
class LinearHead:
    """logits = features · weightᵀ + bias; weight (C, D), bias (C,). loss: the mean over the rows it was fitted on."""

    weight: Array
    bias: Array
    loss: float = field(default=0.0, compare=False)

    def logits(self, features: Array) -> Array:
        return features @ self.weight.T + self.bias


def fit_logistic(
    features: Array, labels: Labels, *, strength: float, start: LinearHead | None = None, tolerance: float = 1e-6
) -> LinearHead:
    """The minimum of J. features (N, D); strength: C. start: where the search begins; tolerance: the largest component
    of the gradient of J, per row, that counts as zero.
    """
    from scipy.optimize import minimize  # 0.2 s to import

    center, scale = _center_and_scale(features)
    z = (features - center) / scale
    (_, classes), dimension = labels.y.shape, z.shape[1]
    total = max(1e-12, float(labels.weights.sum()))

    def objective(flat: Array) -> tuple[float, Array]:
        parameters = flat.reshape(classes, dimension + 1)
        weight, bias = parameters[:, :-1], parameters[:, -1]
        losses, slope = labels._losses_and_gradient(z @ weight.T + bias)
        slope = slope * labels.weights[:, None]
        value = (labels.weights * losses).sum() + (weight**2).sum() / (2 * strength)
        gradient = np.concatenate([slope.T @ z + weight / strength, slope.sum(0)[:, None]], 1)
        return float(value) / total, gradient.ravel() / total

    first = np.zeros((classes, dimension + 1))
    if start is not None:  # in the coordinates of z
        first[:, :-1], first[:, -1] = start.weight * scale, start.bias + start.weight @ center
    options = {"maxiter": 1000, "maxfun": 2000, "gtol": tolerance, "ftol": 1e-15, "maxcor": 20}
    with numpy_on_one_core():
        found = minimize(objective, first.ravel(), jac=True, method="L-BFGS-B", options=options).x
    found = found.reshape(classes, dimension + 1)
    weight = found[:, :-1] / scale
    bias = found[:, -1] - weight @ center
    losses = labels.losses(features @ weight.T + bias)
    return LinearHead(weight, bias, float((labels.weights * losses).sum() / total))


def _center_and_scale(features: Array) -> tuple[Array, float]:
    center = features.mean(0)
    return center, float(np.sqrt(((features - center) ** 2).mean())) or 1.0


# -- cross-validation --------------------------------------------------------------------------------------------------


def stratified_folds(labels: Labels, count: int = FOLDS, *, seed: int = 0) -> NDArray[np.int64]:
    """(N,) the number of each row's fold: the rows of a class (of a set of labels) are dealt out in turn, so that each
    fold has its share and a class of two rows is in two folds.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    _, kind = np.unique(labels.y, axis=0, return_inverse=True)
    kind = np.asarray(kind).reshape(-1)
    order = order[np.argsort(kind[order], kind="stable")]
    folds = np.empty(len(labels), dtype=np.int64)
    folds[order] = np.arange(len(labels)) % max(2, min(count, len(labels)))
    return folds


def parted(folds: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.integer], NDArray[np.integer]]]:
    """(training rows, held-out rows) of each fold; those of a negative number are never held out."""
    for fold in np.unique(folds[folds >= 0]):
        yield np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)


@dataclass(frozen=True)
class Features:
    """What one backbone makes of the data. rows (N, D); names (C, D), of the classes' names; more (U, D), of unlabelled
    rows.
    """

    rows: Array
    names: Array | None = None
    more: Array | None = None


@dataclass(frozen=True)
class Recipe:
    """How a head is fitted. name_weight: how much the name of a class counts, as one more row of it; 0: not at all."""

    strength: float
    name_weight: float = 0.0

    def fit(
        self, features: Features, labels: Labels, rows: NDArray[np.integer] | None = None,
        *, start: LinearHead | None = None, tolerance: float = 1e-6,
    ) -> LinearHead:  # fmt: skip
        """On these rows; on all of them where None."""
        own, known = (features.rows, labels) if rows is None else (features.rows[rows], labels.of(rows))
        if self.name_weight and features.names is not None:
            # Names are no sentences: they are moved to where the rows have their mean.
            moved = features.names - features.names.mean(0) + own.mean(0)
            named = Labels(np.eye(len(moved)), labels.several, np.ones(len(moved)))
            own, known = np.r_[own, moved], known.and_also(named, weight=self.name_weight)
        return fit_logistic(own, known, strength=self.strength, start=start, tolerance=tolerance)


@dataclass(frozen=True)
class Chosen:
    """What cross-validation chose. loss: of the held-out rows, after temperature scaling; accuracy: of these; logits
    (N, C): of each row by a head that had not seen it, NaN where all have; train_loss: of the rows that the heads were
    fitted on.
    """

    recipe: Recipe
    loss: float
    accuracy: float
    train_loss: float
    logits: Array = field(repr=False, compare=False)

    @staticmethod
    def of(recipe: Recipe, logits: Array, labels: Labels, *, train_loss: float) -> Chosen:
        """What the logits of the held-out rows, NaN elsewhere, make of a recipe."""
        held = np.flatnonzero(~np.isnan(logits).any(1))
        loss = calibrated_loss(logits[held], labels.of(held))
        return Chosen(recipe, loss, float(labels.of(held).right(logits[held]).mean()), train_loss, logits)

    def on(self, folds: NDArray[np.int64], labels: Labels) -> Chosen:
        """The same, by the rows alone that these folds hold out."""
        logits = np.where((folds >= 0)[:, None], self.logits, np.nan)
        return Chosen.of(self.recipe, logits, labels, train_loss=self.train_loss)


def choose_head(
    folded: Sequence[Features],
    labels: Labels,
    folds: NDArray[np.int64],
    *,
    name_weights: Sequence[float] = (0.0,),
    strengths: Sequence[float] = STRENGTHS,
) -> Chosen:
    """The recipe with the lowest loss on held-out rows. folded: the features as each fold's backbone computes them;
    the same ones again where the backbone is frozen.
    """
    best: Chosen | None = None
    parts = list(parted(folds))
    for name_weight in name_weights:
        starts: list[LinearHead | None] = [None] * len(folded)
        for strength in strengths:
            recipe, logits = Recipe(strength, name_weight), np.full_like(labels.y, np.nan)
            fitted = partial(_fit_fold, recipe, labels)
            heads = each_on_a_core(fitted, zip(folded, (rows for rows, _ in parts), starts, strict=True))
            for features, (_, held), head in zip(folded, parts, heads, strict=True):
                logits[held] = head.logits(features.rows[held])
            starts = [*heads]
            found = Chosen.of(recipe, logits, labels, train_loss=float(np.mean([head.loss for head in heads])))
            if best is None or found.loss < best.loss:
                best = found
    assert best is not None
    return best


def _fit_fold(
    recipe: Recipe, labels: Labels, fold: tuple[Features, NDArray[np.integer], LinearHead | None]
) -> LinearHead:
    features, rows, start = fold
    return recipe.fit(features, labels, rows, start=start, tolerance=1e-4)


_TEMPERATURES = np.append(np.geomspace(0.1, 10.0, 41), 1e6)  # the last one: nothing is known


def calibrated_loss(logits: Array, labels: Labels) -> float:
    """The mean loss of the logits (N, C) at the temperature that suits them best: what is scaled in the end anyway is
    not to decide between two heads.
    """
    total = labels.weights.sum()
    return min(float((labels.weights * labels.losses(logits / t)).sum() / total) for t in _TEMPERATURES)
