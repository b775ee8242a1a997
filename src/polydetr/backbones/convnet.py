"""Convolution encoders made of inverted residuals (MobileNetV2, EfficientNet-Lite), for features of several scales.

    block(x) = project(depthwise(expand(x)))  [+ x where the shape stays]
    every convolution is followed by y = gain · (x - mean) / √(variance + eps) + bias, most of them by min(max(y, 0), 6)

Sources: Sandler et al. 2018, arXiv 1801.04381 (blocks); Ioffe & Szegedy 2015, arXiv 1502.03167 (batch-norm). As in DETR
(arXiv 2005.12872, appendix A.4) the batch statistics are frozen: batches of a few images would spoil them. A frozen
norm is a factor and a shift per channel, so it is folded into the convolution itself at every call: the same numbers
with one pass less over the activations, in training as in prediction. Without gradients the CPU also adds and activates
in that pass.

Shapes: N images, C channels, H, W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polydetr.nn.cpu.convolution import Activation, Steps, activate, can_fuse, convolve_fused
from polydetr.nn.cpu.depthwise import depthwise_conv, pays_off
from polydetr.nn.cpu.linear import Packed, is_capturing
from polydetr.specs.packaged import SCALES

WIDEST_BLOCK = 16
"""Channels that oneDNN computes at once. The gradient of a 1×1 convolution with a stride over fewer of them writes
beyond its buffer, and the process ends (oneDNN issue 6035; seen under PyTorch 2.13 without AVX-512): so pixels are left
out before it.
"""


class ConvNorm(Packed):
    """Convolution without bias, frozen batch-norm, activation. (N, I, H, W) -> (N, O, ⌈H/stride⌉, ⌈W/stride⌉).

    same_padding: pads as TensorFlow does, more on the right and below, where PyTorch pads all sides alike.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        activation: Activation = "relu6",
        eps: float = 1e-5,
        same_padding: bool = False,
    ) -> None:
        super().__init__()
        self.kernel, self.eps = kernel, eps
        self.activation: Activation = activation
        self.pads_itself = same_padding and stride > 1  # with stride 1 the two ways are one
        self.steps = Steps(stride, 0 if self.pads_itself else dilation * (kernel // 2), dilation, groups)
        self.weight = nn.Parameter(torch.empty(outputs, inputs // groups, kernel, kernel))
        self.gain = nn.Parameter(torch.ones(outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("mean", torch.zeros(outputs))
        self.register_buffer("variance", torch.ones(outputs))
        nn.init.kaiming_normal_(self.weight, mode="fan_out")

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the convolution with the norm folded in; computed in float32, as the factors need it."""
        mean, variance = self.get_buffer("mean"), self.get_buffer("variance")
        factor = self.gain.float() * torch.rsqrt(variance.float() + self.eps)
        weight = self.weight.float() * factor[:, None, None, None]
        bias = self.bias.float() - mean.float() * factor
        return weight.to(self.weight.dtype), bias.to(self.weight.dtype)

    def pack(self) -> None:
        """Keeps the folded weight; also forgotten when a weight is changed in place."""
        if self._packed and self._packed[2] == self._versions():
            return
        with torch.no_grad():
            weight, bias = self.folded()
            self._packed = (weight.contiguous(memory_format=torch.channels_last), bias, self._versions())

    def _ready(self) -> tuple[Tensor, Tensor] | None:
        """What ``pack`` kept, where it may be used; a graph being captured folds the norm itself, in any mode."""
        if not self._packed or is_capturing() or torch.is_grad_enabled() or self._packed[2] != self._versions():
            return None
        return self._packed[:2]

    def _versions(self) -> tuple[int, ...]:
        return tuple(t._version for t in (*self.parameters(), *self.buffers()))

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """activation(norm(convolution(x)) [+ added]); added (N, O, h, w) is left as it was, and not for ReLU6."""
        steps = self.steps
        if self.kernel == 1 < steps.stride and x.shape[1] < WIDEST_BLOCK:
            x, steps = x[..., :: steps.stride, :: steps.stride], steps._replace(stride=1)
        if self.pads_itself:
            x = F.pad(x, self._sides(x.shape[3]) + self._sides(x.shape[2]))
        ready = self._ready()
        weight, bias = ready or self.folded()
        if ready and can_fuse(x) and x.dtype == weight.dtype:
            return convolve_fused(x, weight, bias, steps, self.activation, added)
        if pays_off(x, steps.groups):
            x = depthwise_conv(x, weight, bias, stride=steps.stride, padding=steps.padding)
        else:
            x = F.conv2d(x, weight, bias, *steps)
        return activate(x if added is None else x.add_(added), self.activation)

    def _sides(self, length: int) -> tuple[int, int]:
        """Padding before and after: ⌈length / stride⌉ outputs, the odd pixel after."""
        total = max(0, (-(-length // self.steps.stride) - 1) * self.steps.stride + self.kernel - length)
        return total // 2, total - total // 2


class InvertedResidual(nn.Module):
    """Widen by ``expansion``, filter each channel apart, narrow without an activation."""

    def __init__(
        self, inputs: int, outputs: int, *, expansion: int, kernel: int, stride: int, eps: float, same_padding: bool
    ) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = ConvNorm(inputs, inner, eps=eps, same_padding=same_padding) if expansion > 1 else None
        self.depthwise = ConvNorm(
            inner, inner, kernel=kernel, stride=stride, groups=inner, eps=eps, same_padding=same_padding
        )
        self.project = ConvNorm(inner, outputs, activation="none", eps=eps, same_padding=same_padding)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        hidden = x if self.expand is None else self.expand(x)
        return self.project(self.depthwise(hidden), x if self.residual else None)


class InvertedResidualEncoder(nn.Module):
    """``layers``: the stem, the blocks, the head.

    blocks: (expansion, channels, repeats, stride of the first, kernel) for each stage.
    """

    def __init__(
        self, *, stem: int, blocks: Sequence[Sequence[int]], head: int, eps: float = 1e-5, same_padding: bool = False
    ) -> None:
        super().__init__()
        shared: dict[str, Any] = {"eps": eps, "same_padding": same_padding}
        layers: list[nn.Module] = [ConvNorm(3, stem, kernel=3, stride=2, **shared)]
        strides, width = [2], stem
        for expansion, channels, repeats, first, kernel in blocks:
            for index in range(repeats):
                stride = first if index == 0 else 1
                layers.append(
                    InvertedResidual(width, channels, expansion=expansion, kernel=kernel, stride=stride, **shared)
                )
                width = channels
                strides.append(strides[-1] * stride)
        layers.append(ConvNorm(width, head, **shared))
        self.layers = nn.ModuleList(layers)
        last = {stride: index for index, stride in enumerate((*strides, strides[-1]))}
        self._taken = {last[stride]: stride for stride in SCALES if stride in last}

    def forward(self, pixels: Tensor) -> dict[int, Tensor]:
        """pixels (N, 3, H, W), normalized -> stride 8, 16, 32 -> (N, C, ⌈H/stride⌉, ⌈W/stride⌉); the last is the
        head's.
        """
        x = pixels.contiguous(memory_format=torch.channels_last)
        maps: dict[int, Tensor] = {}
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in self._taken:
                maps[self._taken[index]] = x
        return maps
