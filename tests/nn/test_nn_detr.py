"""DETR's own parts by the formula; its agreement with transformers, output for output and loss for loss."""

from __future__ import annotations

import math

import pytest
import torch
from set_examples import as_hugging_face, random_targets

from polydetr.backbones.resnet import ResNet
from polydetr.errors import ConfigError
from polydetr.nn.box_geometry import BoxGeometry
from polydetr.nn.detr import Detr, DetrSizes, sine_positions
from polydetr.nn.set_loss import SetCriterion
from tiny_detr import NAMES, WholeDetr, as_ours, cell_mask, padded_batch, reference

LAYERS, QUERIES = 3, 13


def tiny(**changes: int) -> WholeDetr:
    torch.manual_seed(0)
    resnet = ResNet(depths=(1, 1, 1, 1), bottleneck=False, stem=5, widths=(5, 7, 7, 11))
    options = {"num_classes": 3, "num_queries": 7, "embed_dim": 8, "encoder_layers": 1, "decoder_layers": 2,
               "encoder_heads": 2, "decoder_heads": 2, "encoder_ffn": 13, "decoder_ffn": 13} | changes  # fmt: skip
    return WholeDetr(resnet, Detr(11, DetrSizes(**options))).eval()


def test_positions_follow_the_formula() -> None:
    mask = torch.zeros(2, 5, 3, dtype=torch.bool)
    mask[0] = True
    mask[1, :2, :2] = True
    waves = sine_positions(mask, 12)
    assert waves.shape == (2, 5, 3, 12)
    for b, (rows, columns) in enumerate([(5, 3), (2, 2)]):
        for y in range(rows):
            for x in range(columns):
                expected = []
                for place, count in ((y + 1, rows), (x + 1, columns)):
                    angle = place / (count + 1e-6) * 2 * math.pi
                    for i in range(3):
                        expected += [math.sin(angle / 10_000 ** (2 * i / 6)), math.cos(angle / 10_000 ** (2 * i / 6))]
                assert waves[b, y, x].tolist() == pytest.approx(expected, abs=1e-5)


def test_shapes_and_what_can_be_asked_for() -> None:
    model, (pixels, mask) = tiny(), padded_batch()
    outputs = model(pixels, mask, need_weights=True)
    assert outputs["logits"].shape == (2, 3, 7, 4)
    assert outputs["boxes_cxcywh"].shape == (2, 3, 7, 4)
    assert outputs["looked_at"].shape == (2, 3, 2, 7, 3, 3)
    assert (outputs["looked_at"][:, 1, :, :, 2] == 0).all()
    last = model(pixels, mask, last_only=True)
    assert last.keys() == {"logits", "boxes_cxcywh"}
    torch.testing.assert_close(last["logits"], outputs["logits"][-1:])
    torch.testing.assert_close(model(pixels)["logits"], model(pixels, torch.ones_like(mask))["logits"])


def test_what_stands_in_the_padding_of_the_map_does_not_matter() -> None:
    """Convolutions look over the border, so only the transformer is tried: cells beyond the mask may hold anything."""
    model, (pixels, mask) = tiny(), padded_batch()
    maps = model.resnet(pixels)
    coarsest = maps[max(maps)]
    cells = cell_mask(mask, coarsest)
    filled = (torch.where(cells[:, None], coarsest, filling) for filling in (0.0, 50.0))
    one, other = (model.detr(features, cells)["boxes_cxcywh"] for features in filled)
    assert not cells.all()
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("auxiliary_loss", [False, True])
@pytest.mark.parametrize("basic", [False, True])
def test_logits_and_boxes_are_those_of_transformers(auxiliary_loss: bool, basic: bool) -> None:
    pytest.importorskip("transformers")
    theirs = reference(auxiliary_loss=auxiliary_loss, basic=basic)
    ours = as_ours(theirs)
    theirs, ours = theirs.double(), ours.double()  # in float32 processors differ by more than is allowed here
    pixels, mask = padded_batch()
    pixels = pixels.double()
    with torch.no_grad():
        expected, outputs = theirs(pixels, pixel_mask=mask.long()), ours(pixels, mask)
        plain, plain_expected = ours(pixels), theirs(pixels)
    assert outputs["logits"].shape == (LAYERS, 3, QUERIES, len(NAMES) + 1)
    assert expected.pred_boxes.std(dim=1).mean() > 0.005, "queries that all answer the same would hide mistakes"
    assert expected.logits.std(dim=0).max() > 0.05, "so would images that do"
    torch.testing.assert_close(outputs["logits"][-1], expected.logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(outputs["boxes_cxcywh"][-1], expected.pred_boxes, rtol=0, atol=1e-4)
    torch.testing.assert_close(plain["logits"][-1], plain_expected.logits, rtol=0, atol=1e-4)


def test_total_loss_and_gradients_are_those_of_transformers() -> None:
    """Auxiliary losses of every layer, one image without any object."""
    pytest.importorskip("transformers")
    theirs = reference(auxiliary_loss=True)
    theirs.requires_grad_()  # its own freezing takes the whole of a ResNet that is not timm's
    ours = as_ours(theirs)
    pixels, mask = padded_batch()
    targets = random_targets((5, 0, 2), classes=len(NAMES))
    expected = theirs(pixels, pixel_mask=mask.long(), labels=as_hugging_face(targets)).loss
    loss = SetCriterion(BoxGeometry())(ours(pixels, mask), targets)
    assert float(loss.total.detach()) == pytest.approx(float(expected.detach()), abs=1e-3)
    expected.backward()
    loss.total.backward()
    for mine, other in (
        (ours.detr.queries.positions.weight, theirs.model.query_position_embeddings.weight),
        (ours.detr.input_projection.weight, theirs.model.input_projection.weight),
        (ours.get_parameter("resnet.layers.5.convolutions.0.weight"),
         theirs.model.backbone.model.encoder.stages[3].layers[0].layer[0].convolution.weight),
    ):  # fmt: skip
        largest = other.grad.abs().max()
        assert largest > 0
        torch.testing.assert_close(mine.grad / largest, other.grad / largest, rtol=0, atol=3e-3)


def test_it_learns_where_a_thing_is() -> None:
    torch.manual_seed(0)
    model = tiny(num_queries=5).train()
    model.detr.decoder.eval()
    pixels = torch.zeros(2, 3, 64, 64)
    pixels[0, :, 8:24, 8:24] = 2.0
    pixels[1, :, 36:60, 40:56] = 2.0
    targets = random_targets((1, 1), classes=1)
    targets.geometry["boxes_cxcywh"][:, 0] = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.75, 0.75, 0.25, 0.375]])
    criterion, optimizer = SetCriterion(BoxGeometry()), torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(100):
        loss = criterion(model(pixels), targets)
        if step == 0:
            first = {name: float(term[-1].detach()) for name, term in loss.terms.items()}
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert float(loss.terms["l1"][-1].detach()) < 0.4 * first["l1"]
    assert float(loss.terms["class"][-1].detach()) < 0.7 * first["class"]


@pytest.mark.parametrize("changes", [{"num_classes": 0}, {"embed_dim": 6}, {"encoder_layers": -1}])
def test_sizes_that_make_no_detr_are_named(changes: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=rf"{next(iter(changes))}={next(iter(changes.values()))}"):
        tiny(**changes)
