"""Convolution, bias, addition and activation in one pass over the map, by oneDNN, for prediction on the CPU.

PyTorch computes them one after another, and each pass reads and writes the whole map: in bfloat16 that takes as long as
the convolutions of a ResNet themselves (figures: ``benchmarks/detr_speed.py``).

Shapes: x (N, I, H, W), weight (O, I / groups, k, k), bias (O,), added and result (N, O, h, w).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from polydetr.nn.cpu.linear import ONEDNN_BF16, is_eager_on_cpu

Activation = Literal["none", "relu", "relu6"]
_ONEDNN = torch.backends.mkldnn.is_available()
_UNARY = {"none": ("none", []), "relu": ("relu", []), "relu6": ("hardtanh", [0.0, 6.0])}


class Steps(NamedTuple):
    """How a square kernel walks over the map."""

    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1


def can_fuse(x: Tensor) -> bool:
    """Whether ``convolve_fused`` takes x: nothing here has a gradient, and nothing is to be traced."""
    knows = ONEDNN_BF16 if x.dtype == torch.bfloat16 else _ONEDNN and x.dtype == torch.float32
    return knows and not torch.is_grad_enabled() and is_eager_on_cpu(x)


def convolve_fused(
    x: Tensor, weight: Tensor, bias: Tensor, steps: Steps, activation: Activation, added: Tensor | None = None
) -> Tensor:
    """activation(convolution(x) [+ added]); ``added`` is left as it was, and goes with "none" and "relu" alone."""
    layout = [steps.padding] * 2, [steps.stride] * 2, [steps.dilation] * 2, steps.groups
    if added is None:
        unary, scalars = _UNARY[activation]
        return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *layout, unary, scalars, "")
    unary = None if activation == "none" else activation
    return torch.ops.mkldnn._convolution_pointwise.binary(
        x, added, weight, bias, *layout, "add", None, unary, [], "" if unary else None
    )


def activate(x: Tensor, activation: Activation) -> Tensor:
    """x may be written over."""
    if activation == "none":
        return x
    return F.relu_(x) if activation == "relu" else F.relu6(x, inplace=True)
