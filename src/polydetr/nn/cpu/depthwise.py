"""Depthwise convolution (each channel apart) whose gradients are convolutions too.

PyTorch's own backward pass of these is slow in bfloat16 on the CPU: for 672 channels of 26 x 26 with a kernel of 5 the
gradient of the weight took 65 ms where the convolution itself took 1. The forward kernels compute the same sums:

    dw[c]     = x[c] * g[c]              every image's channel filtered by its own gradient, then summed over images
    dx[a::s]  = g * flip(w[a::s])        one small convolution for each of the s² phases of a stride s

Shapes: N images, C channels, kernel k, stride s.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_WIDE_KERNEL = 5
"""From this size on the weight's own gradient is the slower one of the two ways."""


def depthwise_conv(x: Tensor, weight: Tensor, bias: Tensor, *, stride: int, padding: int) -> Tensor:
    """x (N, C, H, W), weight (C, 1, k, k), bias (C,) → (N, C, h, w), as ``F.conv2d(..., groups=C)`` gives it."""
    return _Depthwise.apply(x, weight, bias, stride, padding)


def pays_off(x: Tensor, groups: int) -> bool:
    """Where these gradients are the faster ones: measured 1.5 to 20 times in bfloat16, and none in float32."""
    return groups > 1 and x.dtype == torch.bfloat16 and x.device.type == "cpu" and torch.is_grad_enabled()


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, bias, stride, padding, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        to_x = _to_input(gradient, weight, x.shape[-2:], ctx.stride, ctx.padding) if wants_x else None
        to_weight = _to_weight(x, gradient, weight, ctx.stride, ctx.padding) if wants_weight else None
        return to_x, to_weight, gradient.sum((0, 2, 3)) if wants_bias else None, None, None


def _to_input(gradient: Tensor, weight: Tensor, size: Any, stride: int, padding: int) -> Tensor:
    channels, _, kernel, _ = weight.shape
    height, width = size
    if stride == 1:
        return F.conv2d(gradient, weight.flip(2, 3), None, 1, kernel - 1 - padding, 1, channels)
    # A little larger than needed, so that every phase has room for what it writes.
    shape = (len(gradient), channels, height + 2 * padding + stride, width + 2 * padding + stride)
    padded = gradient.new_zeros(shape).contiguous(memory_format=torch.channels_last)
    for a in range(stride):
        for b in range(stride):
            part = weight[:, :, a::stride, b::stride].flip(2, 3)
            if not part.numel():
                continue
            reach = (part.shape[2] - 1, part.shape[3] - 1)
            phase = F.conv2d(gradient, part, None, 1, reach, 1, channels)
            rows = padded[:, :, a::stride, b::stride]
            rows[:, :, : phase.shape[2], : phase.shape[3]] = phase[:, :, : rows.shape[2], : rows.shape[3]]
    return padded[:, :, padding : padding + height, padding : padding + width]


def _to_weight(x: Tensor, gradient: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    channels, _, kernel, _ = weight.shape
    if kernel < _WIDE_KERNEL:
        _, to_weight, _ = torch.ops.aten.convolution_backward(
            gradient, x, weight, [channels], [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], channels,
            [False, True, False],
        )  # fmt: skip
        return to_weight
    count = len(x)
    padded = F.pad(x, [padding] * 4)
    images = padded.transpose(0, 1).reshape(1, channels * count, *padded.shape[-2:])
    filters = gradient.transpose(0, 1).reshape(channels * count, 1, *gradient.shape[-2:])
    per_image = F.conv2d(images, filters, None, 1, 0, stride, channels * count)[0, :, :kernel, :kernel]
    return per_image.view(channels, count, kernel, kernel).sum(1, keepdim=True, dtype=torch.float32).to(weight.dtype)
