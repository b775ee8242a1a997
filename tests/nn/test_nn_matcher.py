"""The matcher against every permutation, against Hugging Face's, and on costs and targets that no one wants."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from set_examples import BATCH, CLASSES, COUNTS, LAYERS, as_hugging_face, matched, random_outputs, random_targets
from torch import Tensor

from polydetr.errors import ConfigError, InputError
from polydetr.nn.box_geometry import BoxGeometry
from polydetr.nn.matcher import Matcher, Matches, SetTargets, assign


def random_cost(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def pairs(matches: Matches, layer: int, example: int) -> set[tuple[int, int]]:
    return set(matched(matches, layer, example).items())


def cheapest(cost: list[list[float]], columns: list[int]) -> set[tuple[int, int]]:
    """By trying them all."""
    tries = itertools.permutations(range(len(cost)), len(columns))
    best = min(tries, key=lambda queries: sum(cost[q][c] for q, c in zip(queries, columns, strict=True)))
    return set(zip(best, columns, strict=True))


def test_no_other_assignment_is_cheaper_and_holes_in_the_mask_are_left_out() -> None:
    cost = random_cost(2, 3, 5, 4)
    mask = torch.tensor([[1, 1, 1, 0], [0, 1, 0, 1], [0, 0, 0, 0]], dtype=torch.bool)
    matches = assign(cost, mask)
    for layer, example in itertools.product(range(2), range(3)):
        columns = mask[example].nonzero().flatten().tolist()
        assert pairs(matches, layer, example) == cheapest(cost[layer, example].tolist(), columns)
    assert len(matches.query) == 2 * (3 + 2)


@pytest.mark.parametrize("kind", ["softmax", "focal"])
def test_assignments_are_those_of_hugging_face(kind: str) -> None:
    pytest.importorskip("transformers")
    from transformers.loss.loss_deformable_detr import DeformableDetrHungarianMatcher
    from transformers.loss.loss_for_object_detection import HungarianMatcher

    theirs = (HungarianMatcher if kind == "softmax" else DeformableDetrHungarianMatcher)(1.5, 5, 2)
    outputs = random_outputs(logits=CLASSES + (kind == "softmax"))
    targets, geometry = random_targets(), BoxGeometry()
    ours = Matcher(kind, class_weight=1.5)(outputs["logits"], targets, geometry.cost(outputs, targets.geometry))
    for layer in range(LAYERS):
        one = {"logits": outputs["logits"][layer], "pred_boxes": outputs["boxes_cxcywh"][layer]}
        for example, (query, target) in enumerate(theirs(one, as_hugging_face(targets))):
            assert pairs(ours, layer, example) == set(zip(query.tolist(), target.tolist(), strict=True))
    assert len(ours.query) == LAYERS * sum(COUNTS)


@pytest.mark.parametrize("kind", ["softmax", "focal"])
def test_class_cost_follows_the_formula(kind: str) -> None:
    """Without geometry, the pair that the formula calls cheapest is taken."""
    outputs = random_outputs(logits=CLASSES + 1, seed=4)["logits"]
    targets = random_targets((1, 1, 1))
    matches = Matcher(kind)(outputs, targets, None)
    for layer, example in itertools.product(range(LAYERS), range(BATCH)):
        label, costs = int(targets.labels[example, 0]), []
        for row in outputs[layer, example].double().tolist():
            if kind == "softmax":
                costs.append(-math.exp(row[label]) / sum(math.exp(x) for x in row))
            else:
                p = 1 / (1 + math.exp(-row[label]))
                costs.append(0.25 * (1 - p) ** 2 * -math.log(p) - 0.75 * p**2 * -math.log(1 - p))
        assert pairs(matches, layer, example) == {(costs.index(min(costs)), 0)}


def test_nothing_is_computed_across_images() -> None:
    outputs, targets, geometry = random_outputs(logits=CLASSES + 1), random_targets(), BoxGeometry()
    before = Matcher()(outputs["logits"], targets, geometry.cost(outputs, targets.geometry))
    broken = {name: tensor.clone() for name, tensor in outputs.items()}
    for tensor in broken.values():
        tensor[:, 2] = math.nan
    after = Matcher()(broken["logits"], targets, geometry.cost(broken, targets.geometry))
    assert pairs(before, 1, 0) == pairs(after, 1, 0)
    assert len(after.query) == len(before.query)


def test_of_more_targets_than_queries_the_best_are_matched() -> None:
    cost = random_cost(1, 2, 3, 7)
    mask = torch.arange(7)[None] < torch.tensor([[7], [2]])
    matches = assign(cost, mask)
    assert len(matches.query) == 3 + 2
    expected = cheapest(cost[0, 0].T.tolist(), [0, 1, 2])
    assert pairs(matches, 0, 0) == {(query, target) for target, query in expected}


def test_costs_that_are_not_finite_are_avoided_without_blurring_the_others() -> None:
    cost = torch.tensor([[math.nan, 0.2, 0.1], [0.3, math.inf, -math.inf], [0.1, 0.3, 0.2 + 1e-6]])
    matches = assign(cost[None, None], torch.ones(1, 3, dtype=torch.bool))
    # Of the assignments with finite costs alone, row 1 must take column 0: 0.3 + (0.2 + 0.2) against 0.3 + (0.1 + 0.3).
    assert pairs(matches, 0, 0) == {(0, 2), (1, 0), (2, 1)}
    everything = assign(torch.full((1, 1, 3, 2), math.nan), torch.ones(1, 2, dtype=torch.bool))
    assert len(everything.query) == 2


def test_where_bad_costs_cannot_be_avoided_they_are_few_and_the_rest_is_still_the_cheapest() -> None:
    """The largest float in their place would round the other costs away: most of these answers would then be wrong."""
    for seed in range(10):
        cost = random_cost(5, 5, seed=seed)
        cost[random_cost(5, 5, seed=seed + 100) < 0.5] = math.nan
        cost[:, 0] = math.nan
        table = cost.double().tolist()

        def worth(columns: tuple[int, ...], table: list[list[float]] = table) -> tuple[int, float]:
            chosen = [table[row][column] for row, column in enumerate(columns)]
            return sum(map(math.isnan, chosen)), round(sum(x for x in chosen if not math.isnan(x)), 6)

        found = dict(pairs(assign(cost[None, None], torch.ones(1, 5, dtype=torch.bool)), 0, 0))
        assert worth(tuple(found[row] for row in range(5))) == min(map(worth, itertools.permutations(range(5))))


def test_padding_may_hold_anything() -> None:
    cost = random_cost(1, 1, 5, 3)
    cost[..., 2] = math.nan
    matches = assign(cost, torch.tensor([[True, True, False]]))
    assert sorted(matches.target.tolist()) == [0, 1]


@pytest.mark.parametrize("counts", [(0, 0, 0), (1, 0, 0)])
def test_no_targets_no_pairs(counts: tuple[int, ...]) -> None:
    outputs, targets = random_outputs(logits=CLASSES + 1), random_targets(counts)
    matches = Matcher()(outputs["logits"], targets, BoxGeometry().cost(outputs, targets.geometry))
    assert len(matches.query) == LAYERS * sum(counts)
    assert matches.query.dtype == torch.int64


def test_half_precision_is_taken() -> None:
    outputs, targets = random_outputs(logits=CLASSES + 1), random_targets()
    half = {name: tensor.to(torch.bfloat16) for name, tensor in outputs.items()}
    matches = Matcher()(half["logits"], targets, BoxGeometry().cost(half, targets.geometry))
    assert len(matches.query) == LAYERS * sum(COUNTS)


def test_faults_are_named() -> None:
    targets = random_targets()
    bad = SetTargets(targets.labels.masked_fill(targets.mask, CLASSES), targets.mask, targets.geometry)
    with pytest.raises(InputError, match=r"label 5 has no logit: there are 5 classes"):
        Matcher()(random_outputs(logits=CLASSES + 1)["logits"], bad, None)
    with pytest.raises(InputError, match=r"label -1 has no logit"):
        Matcher("focal")(random_outputs()["logits"], SetTargets(targets.labels * 0 - 1, targets.mask), None)
    with pytest.raises(ConfigError, match=r"class_cost='softmx' is unknown. Did you mean 'softmax'\?"):
        Matcher("softmx")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"mask bool with True = real"):
        SetTargets(targets.labels, targets.mask.long())
    with pytest.raises(InputError, match=r"geometry\['spans'\] \(2, 3\) does not begin with \(B, T\) = \(3, 7\)"):
        SetTargets(targets.labels, targets.mask, {"spans": torch.zeros(2, 3)})
