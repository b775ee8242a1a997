"""Convolution, bias, addition and ReLU in one pass over the map, by oneDNN, for prediction on the CPU.

PyTorch computes them one after another, and each pass reads and writes the whole map: in bfloat16 that takes as long as
the convolutions of a ResNet themselves (figures: ``benchmarks/detr_speed.py``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from polydetr.nn.cpu.linear import ONEDNN_BF16, is_eager_on_cpu

_ONEDNN = torch.backends.mkldnn.is_available()


def can_fuse(x: Tensor) -> bool:
    """Whether the functions below take x (B, C, H, W): nothing here has a gradient, and nothing is to be traced."""
    knows = ONEDNN_BF16 if x.dtype == torch.bfloat16 else _ONEDNN and x.dtype == torch.float32
    return knows and not torch.is_grad_enabled() and is_eager_on_cpu(x)


def convolve(x: Tensor, convolution: nn.Conv2d, *, relu: bool) -> Tensor:
    """convolution(x), then ReLU if asked."""
    rest = ("relu" if relu else "none", [], "")
    return torch.ops.mkldnn._convolution_pointwise(x, *_arguments(convolution), *rest)


def convolve_add_relu(x: Tensor, convolution: nn.Conv2d, other: Tensor) -> Tensor:
    """ReLU(convolution(x) + other); ``other`` is left as it was."""
    weight, bias, *layout = _arguments(convolution)
    rest = ("add", None, "relu", [], "")
    return torch.ops.mkldnn._convolution_pointwise.binary(x, other, weight, bias, *layout, *rest)


def _arguments(convolution: nn.Conv2d) -> tuple[Any, ...]:
    c = convolution
    assert not isinstance(c.padding, str)
    return c.weight, c.bias, list(c.padding), list(c.stride), list(c.dilation), c.groups
