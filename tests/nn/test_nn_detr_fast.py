"""detr-fast as pure tensors: its parts, its switches, and what denoising may and may not do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from polydetr.errors import ConfigError
from polydetr.nn.box_geometry import BoxGeometry
from polydetr.nn.boxes import box_iou, cxcywh_to_xyxy
from polydetr.nn.denoising import DenoisingPlan
from polydetr.nn.detr_fast import DetrFast, FastSizes, cell_boxes, inverse_sigmoid
from polydetr.nn.matcher import SetTargets
from polydetr.nn.pyramid import PyramidEncoder
from polydetr.nn.set_loss import SetCriterion

SIZES = FastSizes(
    3, (5, 7, 11), num_queries=13, embed_dim=16, num_heads=2, ffn_dim=24, decoder_layers=2, denoising=10, num_points=2
)
SHAPES = ((12, 8), (6, 4), (3, 2))


def maps(batch: int = 2, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, c, *s, generator=generator) for c, s in zip(SIZES.channels, SHAPES, strict=True)]


def targets(*counts: int) -> SetTargets:
    generator = torch.Generator().manual_seed(1)
    labels = [torch.randint(0, 3, (n,), generator=generator) for n in counts]
    boxes = [torch.rand(n, 4, generator=generator) * 0.3 + 0.1 for n in counts]
    return SetTargets.pad(labels, boxes_cxcywh=boxes)


def build(**changes: object) -> DetrFast:
    torch.manual_seed(0)
    return DetrFast(replace(SIZES, **changes)).eval()


def test_shapes_of_answers() -> None:
    found = build()(maps(), targets(2, 3))
    assert found["logits"].shape == (3, 2, 13, 3)  # the proposals and two layers
    assert found["boxes_cxcywh"].shape == (3, 2, 13, 4)
    assert found["denoised_logits"].shape == (2, 2, 2 * 3 * 3, 3)  # 10 // 3 groups of 3 targets, spoilt twice
    assert ((found["boxes_cxcywh"] >= 0) & (found["boxes_cxcywh"] <= 1)).all()
    last = build()(maps(), last_only=True)
    assert set(last) == {"logits", "boxes_cxcywh"}
    assert last["logits"].shape == (1, 2, 13, 3)


@pytest.mark.parametrize(
    "switch",
    [{}, {"refine": False}, {"query_selection": False}, {"deformable": False}, {"denoising": 0}, {"encoder_layers": 0},
     {"channels": (11,)}, {"num_queries": 200}],
    ids=str,
)  # fmt: skip
def test_every_switch_answers_and_learns(switch: dict[str, object]) -> None:
    model = build(**switch)
    seen = maps()[-len(model.sizes.channels) :]
    wanted = targets(2, 0)
    found = model(seen, wanted)
    judged = {name: found[name] for name in ("logits", "boxes_cxcywh")}
    loss = SetCriterion(BoxGeometry(), classification="varifocal")(judged, wanted).total
    if "denoised_logits" in found:
        loss = loss + found["denoised_logits"].sum() * 1e-3 + found["denoised_boxes"].sum() * 1e-3
    loss.backward()
    assert torch.isfinite(loss)
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent
    with torch.no_grad():
        assert torch.equal(model(seen, last_only=True)["boxes_cxcywh"][0], model(seen)["boxes_cxcywh"][-1])


def test_examples_do_not_disturb_one_another() -> None:
    model = build()
    with torch.no_grad():
        together = model(maps(3))
        for i in range(3):
            alone = model([level[i : i + 1] for level in maps(3)])
            torch.testing.assert_close(alone["logits"][:, 0], together["logits"][:, i], rtol=1e-4, atol=1e-5)


def test_denoising_does_not_tell_the_queries_anything() -> None:
    model = build()
    with torch.no_grad():
        without, with_noise = model(maps()), model(maps(), targets(4, 3))
    torch.testing.assert_close(with_noise["logits"], without["logits"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(with_noise["boxes_cxcywh"], without["boxes_cxcywh"], rtol=1e-4, atol=1e-5)


def test_groups_of_denoising_do_not_see_one_another() -> None:
    plan = DenoisingPlan.of(targets(2, 1), 6)
    assert plan is not None
    assert plan.groups == 3
    allowed = plan.allowed(5)
    assert allowed.shape == (3 * 4 + 5, 3 * 4 + 5)
    for row in range(17):
        for column in range(17):
            same_group = row < 12 and column < 12 and row // 4 == column // 4
            assert bool(allowed[row, column]) == (same_group or column >= 12)


def test_spoilt_boxes_keep_to_their_distance_and_matches_name_them() -> None:
    torch.manual_seed(0)
    wanted = targets(4, 1)
    plan = DenoisingPlan.of(wanted, 40)
    assert plan is not None
    labels, boxes = plan.queries(3)
    assert labels.shape == (2, 2 * 10 * 4)
    matches = plan.matches(2)
    assert len(matches) == 2 * 10 * 5
    true = wanted.geometry["boxes_cxcywh"]
    overlap = box_iou(cxcywh_to_xyxy(boxes[matches.example, matches.query]),
                      cxcywh_to_xyxy(true[matches.example, matches.target]))  # fmt: skip
    contrast = box_iou(cxcywh_to_xyxy(boxes[matches.example, matches.query + 4]),
                       cxcywh_to_xyxy(true[matches.example, matches.target]))  # fmt: skip
    assert overlap.mean() > contrast.mean() + 0.1
    kept = (labels[matches.example, matches.query] == wanted.labels[matches.example, matches.target]).float().mean()
    assert 0.7 < kept < 0.95  # a quarter is drawn anew, a third of those by chance the same


def test_nothing_to_show() -> None:
    assert DenoisingPlan.of(targets(0, 0), 10) is None
    assert DenoisingPlan.of(targets(2), 0) is None
    many = DenoisingPlan.of(targets(30), 10)
    assert many is not None
    assert many.targets.labels.shape == (1, 10)
    assert many.groups == 1
    assert "denoised_logits" not in build()(maps(), targets(0, 0))


def test_queries_are_the_cells_that_look_most_like_an_object() -> None:
    model = build()
    assert model.proposals is not None
    memory = torch.randn(2, 124, 16)
    with torch.no_grad():
        _, _, logits = model.proposals(memory, SHAPES)
        everything = model.proposals.class_head(model.proposals.read(memory)).amax(-1)
    assert torch.equal(logits.amax(-1), everything.sort(dim=1, descending=True).values[:, :13])


def test_first_boxes_stand_on_their_cells() -> None:
    boxes = cell_boxes(((2, 4), (1, 2)))[0]
    assert boxes[:, :2].tolist()[:5] == [[0.125, 0.25], [0.375, 0.25], [0.625, 0.25], [0.875, 0.25], [0.125, 0.75]]
    assert boxes[:8, 2:].unique().item() == pytest.approx(0.25)
    assert boxes[8:, 2:].unique().item() == pytest.approx(0.5)
    x = torch.tensor([0.0, 0.3, 1.0])
    assert inverse_sigmoid(x).sigmoid() == pytest.approx(x, abs=1e-4)
    assert torch.isfinite(inverse_sigmoid(x)).all()


def test_every_scale_hears_of_every_other() -> None:
    torch.manual_seed(0)
    pyramid = PyramidEncoder((5, 7, 11), 16, num_layers=1, num_heads=2, ffn_dim=24, dropout=0.0).eval()
    before = maps(1)
    with torch.no_grad():
        plain = pyramid(before)
        assert [tuple(level.shape[1:]) for level in plain] == [(16, *shape) for shape in SHAPES]
        for changed in range(3):
            after = [level.clone() for level in before]
            after[changed][:, :, 0, 0] += 3.0
            for one, other in zip(plain, pyramid(after), strict=True):
                assert not torch.allclose(one, other, atol=1e-4)


def test_sizes_that_make_no_detector() -> None:
    for changes in ({"num_classes": 0}, {"num_queries": 0}, {"channels": ()}, {"embed_dim": 18}):
        with pytest.raises(ConfigError, match="do not make a detector"):
            replace(SIZES, **changes)
