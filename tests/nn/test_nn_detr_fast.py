"""detr-fast as pure tensors: its parts and its switches."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from set_examples import pad_targets

from polydetr.errors import ConfigError
from polydetr.nn.box_geometry import BoxGeometry
from polydetr.nn.detr_fast import DetrFast, FastSizes, cell_boxes, inverse_sigmoid
from polydetr.nn.matcher import SetTargets
from polydetr.nn.pyramid import PyramidEncoder
from polydetr.nn.set_loss import SetCriterion

SIZES = FastSizes(3, (5, 7, 11), num_queries=13, embed_dim=16, num_heads=2, ffn_dim=24, decoder_layers=2, num_points=2)
SHAPES = ((12, 8), (6, 4), (3, 2))


def maps(batch: int = 2, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, c, *s, generator=generator) for c, s in zip(SIZES.channels, SHAPES, strict=True)]


def targets(*counts: int) -> SetTargets:
    generator = torch.Generator().manual_seed(1)
    labels = [torch.randint(0, 3, (n,), generator=generator) for n in counts]
    boxes = [torch.rand(n, 4, generator=generator) * 0.3 + 0.1 for n in counts]
    return pad_targets(labels, boxes)


def build(*, seed: int = 0, **changes: object) -> DetrFast:
    torch.manual_seed(seed)
    return DetrFast(replace(SIZES, **changes)).eval()


def test_shapes_of_answers() -> None:
    found = build()(maps())
    assert found["logits"].shape == (3, 2, 13, 3)  # the proposals and two layers
    assert found["boxes_cxcywh"].shape == (3, 2, 13, 4)
    assert ((found["boxes_cxcywh"] >= 0) & (found["boxes_cxcywh"] <= 1)).all()
    last = build()(maps(), last_only=True)
    assert set(last) == {"logits", "boxes_cxcywh"}
    assert last["logits"].shape == (1, 2, 13, 3)


@pytest.mark.parametrize(
    "switch",
    [{}, {"refine": False}, {"query_selection": False}, {"deformable": False}, {"encoder_layers": 0},
     {"channels": (11,)}, {"num_queries": 200}],
    ids=str,
)  # fmt: skip
def test_every_switch_answers_and_learns(switch: dict[str, object]) -> None:
    model = build(**switch)
    seen = maps()[-len(model.sizes.channels) :]
    wanted = targets(2, 0)
    found = model(seen)
    loss = SetCriterion(BoxGeometry(), classification="varifocal")(found, wanted).total
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


def test_weights_of_a_model_that_was_denoised_are_read() -> None:
    model = build()
    saved = {**build(seed=1).state_dict(), "label_embedding.weight": torch.zeros(3, 16)}
    model.load_state_dict(saved)
    assert torch.equal(model.place.state_dict()["layers.0.weight"], saved["place.layers.0.weight"])
    with pytest.raises(RuntimeError, match="other"):
        model.load_state_dict({**saved, "other": torch.zeros(1)})


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
