"""The set criterion against the formulas in Python floats, and against the criteria in transformers."""

from __future__ import annotations

import functools
import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from set_examples import (
    BATCH,
    CLASSES,
    COUNTS,
    LAYERS,
    QUERIES,
    as_hugging_face,
    matched,
    random_outputs,
    random_targets,
)
from torch import Tensor

from polydetr.errors import ConfigError
from polydetr.nn import set_loss
from polydetr.nn.box_geometry import BoxGeometry
from polydetr.nn.boxes import box_iou, cxcywh_to_xyxy
from polydetr.nn.matcher import SetTargets
from polydetr.nn.set_loss import SetCriterion

SIGMOIDS = ("focal", "varifocal", "iou_aware")


def literal_entry(kind: str, logit: float, quality: float | None) -> float:
    """One entry of the class loss; quality None where the query's label is another class."""
    p = 1 / (1 + math.exp(-logit))
    if kind == "focal":
        return 0.75 * p**2 * -math.log(1 - p) if quality is None else 0.25 * (1 - p) ** 2 * -math.log(p)
    if kind == "varifocal":
        if quality is None:
            return 0.75 * p**2 * -math.log(1 - p)
        return -quality * (quality * math.log(p) + (1 - quality) * math.log(1 - p))
    if quality is None:
        return p**2 * -math.log(1 - p)
    t = max(p**0.25 * quality**0.75, 0.01)
    return -(t * math.log(p) + (1 - t) * math.log(1 - p))


@pytest.mark.parametrize("kind", SIGMOIDS)
def test_sigmoid_terms_follow_the_formula_in_every_layer(kind: str) -> None:
    outputs, targets = random_outputs(), random_targets()
    loss = SetCriterion(BoxGeometry(), classification=kind)(outputs, targets)
    expected = [0.0] * LAYERS
    for layer, example in itertools.product(range(LAYERS), range(BATCH)):
        partner = matched(loss.matches, layer, example)
        for query, row in enumerate(outputs["logits"][layer, example].tolist()):
            for label, logit in enumerate(row):
                quality = None
                if query in partner and int(targets.labels[example, partner[query]]) == label:
                    found = outputs["boxes_cxcywh"][layer, example, query]
                    wanted = targets.geometry["boxes_cxcywh"][example, partner[query]]
                    quality = float(box_iou(cxcywh_to_xyxy(found), cxcywh_to_xyxy(wanted)))
                expected[layer] += literal_entry(kind, logit, quality) / sum(COUNTS)
    assert loss.terms["class"].tolist() == pytest.approx(expected, rel=1e-4)


def test_softmax_term_is_the_weighted_mean_in_every_layer() -> None:
    outputs, targets = random_outputs(logits=CLASSES + 1), random_targets()
    loss = SetCriterion(BoxGeometry())(outputs, targets)
    for layer in range(LAYERS):
        above = below = 0.0
        for example in range(BATCH):
            partner = matched(loss.matches, layer, example)
            for query, row in enumerate(outputs["logits"][layer, example].double()):
                label = int(targets.labels[example, partner[query]]) if query in partner else CLASSES
                weight = 1.0 if query in partner else 0.1
                above -= weight * float(row.log_softmax(0)[label])
                below += weight
        assert float(loss.terms["class"][layer]) == pytest.approx(above / below, rel=1e-5)


def test_total_weighs_terms_and_sums_layers() -> None:
    outputs, targets = random_outputs(logits=CLASSES + 1), random_targets()
    geometry = BoxGeometry(l1_weight=3.0, giou_weight=0.5)
    loss = SetCriterion(geometry)(outputs, targets)
    sums = {name: float(term.sum()) for name, term in loss.terms.items()}
    assert float(loss.total) == pytest.approx(sums["class"] + 3 * sums["l1"] + 0.5 * sums["giou"], rel=1e-6)


def test_costs_of_very_many_targets_are_computed_layer_by_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, targets = random_outputs(logits=CLASSES + 1), random_targets()
    at_once, asked = SetCriterion(BoxGeometry())(outputs, targets), []
    monkeypatch.setattr(set_loss, "_MOST_COSTS", LAYERS * BATCH * QUERIES * max(COUNTS) - 1)
    geometry = BoxGeometry()
    cost = geometry.cost
    monkeypatch.setattr(geometry, "cost", lambda o, g: asked.append(len(o["boxes_cxcywh"])) or cost(o, g))
    apart = SetCriterion(geometry)(outputs, targets)
    assert asked == [1] * LAYERS
    assert torch.equal(apart.matches.query, at_once.matches.query)
    assert float(apart.total) == float(at_once.total)


def hugging_face_total(outputs: dict[str, Tensor], targets: SetTargets) -> float:
    from transformers.loss.loss_for_object_detection import ForObjectDetectionLoss

    config = SimpleNamespace(class_cost=1, bbox_cost=5, giou_cost=2, num_labels=CLASSES, eos_coefficient=0.1,
                             auxiliary_loss=True, bbox_loss_coefficient=5, giou_loss_coefficient=2,
                             decoder_layers=LAYERS)  # fmt: skip
    logits, boxes = outputs["logits"], outputs["boxes_cxcywh"]
    labels = as_hugging_face(targets)
    total, *_ = ForObjectDetectionLoss(logits[-1], labels, "cpu", boxes[-1], config, logits, boxes)
    return float(total)


def test_total_with_auxiliary_losses_and_an_empty_target_is_hugging_faces() -> None:
    pytest.importorskip("transformers")
    outputs, targets = random_outputs(logits=CLASSES + 1), random_targets()
    ours = SetCriterion(BoxGeometry())(outputs, targets)
    assert float(ours.total) == pytest.approx(hugging_face_total(outputs, targets), rel=1e-6)


@pytest.mark.parametrize("kind", SIGMOIDS)
def test_sigmoid_terms_and_gradients_are_those_in_transformers(kind: str) -> None:
    pytest.importorskip("transformers")
    from transformers.loss.loss_deformable_detr import DeformableDetrHungarianMatcher, DeformableDetrImageLoss
    from transformers.loss.loss_lw_detr import LwDetrImageLoss
    from transformers.loss.loss_rt_detr import RTDetrLoss

    outputs, targets = random_outputs(), random_targets()
    outputs["logits"].requires_grad_()
    ours = SetCriterion(BoxGeometry(), classification=kind)(outputs, targets).terms["class"]
    (gradient,) = torch.autograd.grad(ours.sum(), outputs["logits"])
    matcher, theirs = DeformableDetrHungarianMatcher(2, 5, 2), 0.0
    reference = outputs["logits"].detach().clone().requires_grad_()
    for layer in range(LAYERS):
        one = {"logits": reference[layer], "pred_boxes": outputs["boxes_cxcywh"][layer]}
        wanted = as_hugging_face(targets)
        indices = matcher({key: value.detach() for key, value in one.items()}, wanted)
        if kind == "focal":
            term = DeformableDetrImageLoss(matcher, CLASSES, 0.25, []).loss_labels(one, wanted, indices, sum(COUNTS))
        elif kind == "iou_aware":
            criterion = LwDetrImageLoss(matcher, CLASSES, 0.25, [], 1)
            term = criterion.loss_labels(one, wanted, indices, sum(COUNTS))
        else:
            places = functools.partial(RTDetrLoss._get_source_permutation_idx, None)
            holder = SimpleNamespace(num_classes=CLASSES, alpha=0.75, gamma=2.0, _get_source_permutation_idx=places)
            term = RTDetrLoss.loss_labels_vfl(holder, one, wanted, indices, sum(COUNTS))
        (value,) = term.values()
        assert float(ours[layer].detach()) == pytest.approx(float(value.detach()), rel=1e-5)
        theirs = theirs + value
    torch.testing.assert_close(gradient, torch.autograd.grad(theirs, reference)[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["softmax", *SIGMOIDS])
@pytest.mark.parametrize("counts", [(0, 0, 0), (0, 1, 0), (QUERIES + 2, 0, 1)])
def test_few_no_or_too_many_targets_give_finite_losses_and_gradients(kind: str, counts: tuple[int, ...]) -> None:
    outputs = random_outputs(logits=CLASSES + (kind == "softmax"))
    for tensor in outputs.values():
        tensor.requires_grad_()
    loss = SetCriterion(BoxGeometry(), classification=kind)(outputs, random_targets(counts))
    loss.total.backward()
    assert math.isfinite(float(loss.total.detach()))
    assert all(tensor.grad is not None and torch.isfinite(tensor.grad).all() for tensor in outputs.values())
    assert len(loss.matches.query) == LAYERS * sum(min(count, QUERIES) for count in counts)
    if not sum(counts):
        assert float(loss.terms["l1"].detach().sum()) == 0.0
        assert (outputs["boxes_cxcywh"].grad == 0).all()
        assert outputs["logits"].grad.abs().sum() > 0


def test_degenerate_and_extreme_answers_stay_finite() -> None:
    outputs = random_outputs()
    outputs["logits"][0] = 90.0
    outputs["logits"][1] = -90.0
    outputs["boxes_cxcywh"][..., 2:] = 0.0
    targets = random_targets()
    targets.geometry["boxes_cxcywh"][0, 0, 2:] = 0.0
    for kind in SIGMOIDS:
        leaf = {name: tensor.clone().requires_grad_() for name, tensor in outputs.items()}
        SetCriterion(BoxGeometry(), classification=kind)(leaf, targets).total.backward()
        assert all(torch.isfinite(tensor.grad).all() for tensor in leaf.values() if tensor.grad is not None)


class PointGeometry:
    """Another geometry altogether: one number a target."""

    weights = {"distance": 1.0}  # noqa: RUF012

    def cost(self, outputs, geometry):
        return (outputs["at"][..., :, None] - geometry["at"][:, None, :]).abs()

    def losses(self, found, wanted):
        return {"distance": (found["at"] - wanted["at"]).abs()}

    def quality(self, found, wanted):
        return torch.ones_like(found["at"])


def test_any_geometry_trains_answers_onto_its_targets() -> None:
    at = torch.linspace(-1, 1, QUERIES).repeat(1, 2, 1).requires_grad_()
    logits = torch.zeros(1, 2, QUERIES, 3, requires_grad=True)
    wanted = torch.tensor([[0.33, -0.71, 0.9], [0.05, 0.0, 0.0]])
    targets = SetTargets(
        torch.tensor([[0, 1, 1], [0, 0, 0]]), torch.tensor([[1, 1, 1], [1, 0, 0]]).bool(), {"at": wanted}
    )
    criterion = SetCriterion(PointGeometry())
    optimizer = torch.optim.Adam([at, logits], lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        criterion({"logits": logits, "at": at}, targets).total.backward()
        optimizer.step()
    best = logits[0].argmax(-1)
    assert (best[0] != 2).sum() == 3
    assert (best[1] != 2).sum() == 1
    assert sorted(at[0, 0][best[0] != 2].tolist()) == pytest.approx([-0.71, 0.33, 0.9], abs=0.03)


def test_unknown_classification_is_named() -> None:
    with pytest.raises(ConfigError, match=r"classification='varifokal' is unknown. Did you mean 'varifocal'\?"):
        SetCriterion(BoxGeometry(), classification="varifokal")  # type: ignore[arg-type]
