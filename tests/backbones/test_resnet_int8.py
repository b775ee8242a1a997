"""A ResNet in 8-bit integers: its levels, one convolution, and the whole against float32."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from polydetr.backbones import resnet_int8
from polydetr.backbones.resnet import ResNet, fold_batch_norm
from polydetr.backbones.resnet_int8 import Int8Convolution, Int8ResNet, Range
from polydetr.errors import ConfigError
from polydetr.nn.cpu.int8 import computes_int8

needs_int8 = pytest.mark.skipif(not computes_int8(), reason="this CPU has no VNNI")
ends = st.floats(-1e4, 1e4, allow_subnormal=False)


def folded(*, bottleneck: bool = True, dilated: bool = False) -> ResNet:
    torch.manual_seed(0)
    resnet = ResNet((1, 2, 1, 2), bottleneck=bottleneck, stem=8, widths=(8, 12, 16, 16), dilated=dilated).eval()
    for name, tensor in resnet.state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(0.7 + 0.6 * torch.rand(tensor.shape))
        if ".bn" in name and name.endswith("bias"):
            tensor.copy_(0.1 * torch.randn(tensor.shape))
    fold_batch_norm(resnet)
    return resnet.requires_grad_(False)


@given(ends, ends, st.floats(0, 1))
def test_a_value_of_the_range_is_half_a_level_away_at_most(one: float, other: float, share: float) -> None:
    low, high = sorted((one, other))
    seen = Range.of(low, high)
    x = low + share * (high - low)
    levels = seen.levels(torch.tensor(x).view(1, 1, 1, 1))
    assert levels.dtype == torch.uint8
    # The zero is rounded to a level too, so that at the ends it may be a whole one.
    assert abs((float(levels) - seen.zero) * seen.scale - x) <= 1.001 * seen.scale + 1e-6 * abs(x)
    assert float(seen.levels(torch.zeros(1, 1, 1, 1))) == seen.zero


@needs_int8
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("added", [True, False])
def test_one_convolution_is_exact_but_for_its_rounding(relu: bool, added: bool) -> None:
    torch.manual_seed(1)
    convolution = nn.Conv2d(5, 7, 3, stride=2, padding=1).requires_grad_(False)
    source, other_range = Range.of(-1.0, 2.0), Range.of(-3.0, 1.0)
    # What the levels of inputs and weights stand for, so that rounding the answer is all that is left.
    levels = torch.randint(0, 256, (2, 5, 9, 11)).to(torch.uint8).to(memory_format=torch.channels_last)
    scale = convolution.weight.abs().amax((1, 2, 3), keepdim=True) / 127
    convolution.weight.copy_((convolution.weight / scale).round() * scale)
    expected = convolution((levels.float() - source.zero) * source.scale)
    other = torch.randint(0, 256, expected.shape).to(torch.uint8).to(memory_format=torch.channels_last)
    if added:
        expected += (other.float() - other_range.zero) * other_range.scale
    expected = expected.relu() if relu else expected
    target = Range.of(float(expected.min()), float(expected.max()))
    fast = Int8Convolution.of(
        convolution, levels.shape, source, target, added=other_range if added else None, relu=relu
    )
    found = (fast(levels, other.clone() if added else None).float() - target.zero) * target.scale
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= 1.01 * target.scale


@needs_int8
@pytest.mark.parametrize("bottleneck", [True, False])
@pytest.mark.parametrize("dilated", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_last_map_is_near_that_of_float32(bottleneck: bool, dilated: bool, dtype: torch.dtype) -> None:
    resnet = folded(bottleneck=bottleneck, dilated=dilated)
    pixels = torch.randn(2, 3, 70, 45)
    (found,), expected = Int8ResNet(resnet, [pixels])(pixels.to(dtype)), resnet(pixels)[-1]
    assert found.dtype == dtype
    assert found.shape == expected.shape
    assert float((found.float() - expected).norm() / expected.norm()) < 0.06


@needs_int8
def test_what_stands_beside_a_picture_changes_nothing_and_its_size_may_differ() -> None:
    resnet = folded()
    fast = Int8ResNet(resnet, [torch.randn(2, 3, 70, 45), torch.randn(1, 3, 40, 64)])
    pixels = torch.randn(3, 3, 96, 64)
    (together,), (alone,) = fast(pixels), fast(pixels[1:2])
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=0)
    assert float((alone - resnet(pixels[1:2])[-1]).norm() / alone.norm()) < 0.2


@needs_int8
def test_what_lies_beyond_the_samples_is_clipped() -> None:
    resnet = folded()
    fast = Int8ResNet(resnet, [torch.randn(1, 3, 64, 64)])
    (found,), (limit,) = fast(50 * torch.randn(1, 3, 64, 64)), fast(1e9 * torch.randn(1, 3, 64, 64))
    for answer in (found, limit):
        assert float(answer.min()) >= 0
        assert float(answer.max()) <= fast._map.scale * 255


@needs_int8
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_picture_that_holds_no_number_does_not_end_in_numbers(bad: float) -> None:
    fast = Int8ResNet(folded(), [torch.randn(1, 3, 64, 64)])
    pixels = torch.randn(2, 3, 64, 64)
    pixels[1, 0, 5, 7] = bad
    (found,) = fast(pixels)
    assert torch.isfinite(found[0]).all()
    assert found[1].isnan().all()


@needs_int8
@pytest.mark.parametrize(
    "sample", [torch.randn(3, 64, 64), torch.randn(1, 1, 64, 64), torch.full((1, 3, 64, 64), float("nan"))]
)
def test_a_sample_that_gives_no_ranges_is_named(sample: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match="sample picture 2"):
        Int8ResNet(folded(), [torch.randn(1, 3, 64, 64), sample])


@needs_int8
def test_pooling_of_bytes() -> None:
    x = torch.randint(0, 256, (2, 4, 11, 8)).to(torch.uint8).to(memory_format=torch.channels_last)
    expected = F.max_pool2d(x.float(), 3, stride=2, padding=1)
    torch.testing.assert_close(resnet_int8._pool_bytes(x).float(), expected, rtol=0, atol=0)


def test_a_machine_without_the_instructions_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resnet_int8, "computes_int8", lambda: False)
    with pytest.raises(ConfigError, match="no instructions"):
        Int8ResNet(folded(), [torch.zeros(1, 3, 64, 64)])
