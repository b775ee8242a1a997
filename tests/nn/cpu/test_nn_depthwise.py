"""Gradients of the depthwise convolution are those of PyTorch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from polydetr.nn.cpu.depthwise import depthwise_conv, pays_off


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (1, 1), (2, 0), (2, 1), (3, 2)])
@pytest.mark.parametrize("size", [(11, 13), (12, 9)])
def test_gradients_are_pytorchs(kernel: int, stride: int, padding: int, size: tuple[int, int]) -> None:
    if padding > kernel - 1:
        pytest.skip("such a padding sees nothing")
    torch.manual_seed(0)
    shapes = ((2, 6, *size), (6, 1, kernel, kernel), (6,))
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    x, weight, bias = inputs
    expected = F.conv2d(x, weight, bias, stride, padding, 1, 6)
    found = depthwise_conv(x, weight, bias, stride=stride, padding=padding)
    torch.testing.assert_close(found, expected)
    upstream = torch.randn_like(expected)
    ours = torch.autograd.grad(found, inputs, upstream)
    theirs = torch.autograd.grad(expected, inputs, upstream)
    for one, other in zip(ours, theirs, strict=True):
        # The weight's sum over images is float32, exact enough for the bfloat16 that it is for.
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_only_what_is_asked_for_is_computed() -> None:
    x = torch.randn(1, 4, 8, 8)
    weight = torch.randn(4, 1, 5, 5, requires_grad=True)
    depthwise_conv(x, weight, torch.zeros(4), stride=2, padding=2).sum().backward()
    assert weight.grad is not None
    assert x.grad is None


def test_where_it_pays_off() -> None:
    x = torch.zeros(1, 4, 2, 2, dtype=torch.bfloat16)
    assert pays_off(x, 4)
    assert not pays_off(x, 1)
    assert not pays_off(x.float(), 4)
    with torch.no_grad():
        assert not pays_off(x, 4)
