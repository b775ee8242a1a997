"""The copy laid out for prediction gives the model's answers; the fused passes give the layers' results."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from polydetr.backbones.detr_checkpoints import detr_from_state
from polydetr.backbones.detr_prediction import prepare_for_prediction
from polydetr.backbones.resnet import ResNet, fold_batch_norm
from polydetr.errors import ConfigError
from polydetr.nn.cpu.convolution import can_fuse
from polydetr.nn.cpu.int8 import computes_int8
from polydetr.nn.detr import Detr
from tiny_detr import padded_batch, reference

needs_int8 = pytest.mark.skipif(not computes_int8(), reason="this CPU has no VNNI")


@pytest.fixture(scope="module")
def model() -> Detr:
    pytest.importorskip("transformers")
    theirs = reference()
    return detr_from_state(theirs.state_dict(), config=theirs.config.to_dict()).model


def last(model: Detr, pixels: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
    with torch.no_grad():
        return {name: tensor[-1] for name, tensor in model(pixels, mask).items()}


@pytest.mark.parametrize("masked", [True, False])
def test_float32_answers_are_the_models(model: Detr, masked: bool) -> None:
    pixels, mask = padded_batch()
    fast = prepare_for_prediction(model, bf16=False)(pixels, mask if masked else None)
    for name, expected in last(model, pixels, mask if masked else None).items():
        torch.testing.assert_close(fast[name], expected, rtol=0, atol=1e-4)


def test_bfloat16_answers_are_near_and_in_float32(model: Detr) -> None:
    pixels, mask = padded_batch()
    fast, expected = prepare_for_prediction(model, bf16=True)(pixels, mask), last(model, pixels, mask)
    for name, tensor in expected.items():
        assert fast[name].dtype == torch.float32
        assert (fast[name] - tensor).abs().mean() < 0.1 * tensor.std()
    assert not torch.equal(fast["logits"], prepare_for_prediction(model, bf16=False)(pixels, mask)["logits"])


@needs_int8
def test_int8_answers_are_near_and_in_float32(model: Detr) -> None:
    pixels, mask = padded_batch()
    fast = prepare_for_prediction(model, bf16=False, int8_samples=[pixels])(pixels, mask)
    for name, tensor in last(model, pixels, mask).items():
        assert fast[name].dtype == torch.float32
        assert 0 < (fast[name] - tensor).abs().mean() < 0.1 * tensor.std()


@needs_int8
def test_int8_is_refused_where_it_does_not_fit(model: Detr) -> None:
    with pytest.raises(ConfigError, match="expected a ResNet"):
        prepare_for_prediction(Detr(nn.Identity(), 3, model.sizes), int8_samples=[torch.zeros(1, 3, 8, 8)])
    with pytest.raises(ConfigError, match="none were given"):
        prepare_for_prediction(model, int8_samples=[])


def test_the_model_itself_is_left_alone(model: Detr) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.inference_mode():
        prepare_for_prediction(model)(*padded_batch())
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(
        torch.equal(after[name], tensor) and after[name].dtype == tensor.dtype for name, tensor in before.items()
    )
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("bottleneck", [True, False])
@pytest.mark.parametrize("dilated", [True, False])
def test_fused_passes_equal_the_layers(bottleneck: bool, dilated: bool) -> None:
    torch.manual_seed(0)
    # Equal widths at the end: a dilated stage then begins without a shortcut of its own.
    resnet = ResNet((1, 2, 1, 2), bottleneck=bottleneck, stem=8, widths=(8, 12, 16, 16), dilated=dilated).eval()
    fold_batch_norm(resnet)
    pixels = torch.randn(2, 3, 70, 45).to(memory_format=torch.channels_last)
    layered = resnet(pixels)
    assert not can_fuse(pixels)  # gradients are on
    with torch.no_grad():
        assert can_fuse(pixels)
        fused = resnet(pixels)
    for one, other in zip(fused, layered, strict=True):
        torch.testing.assert_close(one, other.detach(), rtol=1e-4, atol=1e-4)
    layered[-1].sum().backward()
    assert resnet.conv1.weight.grad is not None


def test_nothing_is_fused_where_it_would_be_lost() -> None:
    with torch.no_grad():
        assert not can_fuse(torch.zeros(1, 1, 1, 1, dtype=torch.float64))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert not can_fuse(torch.zeros(1, 1, 1, 1))
