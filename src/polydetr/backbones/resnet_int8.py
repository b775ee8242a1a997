"""A ResNet in 8-bit integers, for prediction on CPUs that multiply those fastest.

Maps are bytes from the pixels to the last block: on the way out of each convolution oneDNN adds the shortcut, applies
ReLU and rounds, so that a map is written once and takes half the memory of bfloat16. For that the range of each map
must be known beforehand; it is the one seen in sample pictures, and what lies beyond it is clipped (static
quantisation: Jacob et al. 2017, arXiv 1712.05877). Weights have one scale an output channel. Sums are exact, in 32
bits.

Shapes: B pictures, (B, 3, H, W) in; of a convolution (B, I, H, W) in, (B, O, h, w) out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polydetr.backbones.resnet import ResNet
from polydetr.errors import ConfigError
from polydetr.nn.cpu.int8 import computes_int8

_LEVELS = 255
_WEIGHT_LEVELS = 127
_SMALLEST = 1e-12
"""Kept away from 0, by which nothing can be divided."""
_PIXELS = "pixels"

T = TypeVar("T")


def _walk(names: Sequence[str], x: T, step: Callable[[str, T, T | None], T], pool: Callable[[T], T]) -> T:
    """``step(name, x, other)`` for the convolutions of a ResNet in their order; ``other`` is the shortcut, which the
    last one of a block adds.

    names: as ``named_modules`` lists them.
    """
    x = pool(step(names[0], x, None))
    for _, block in itertools.groupby(names[1:], key=lambda name: name.split(".")[:2]):
        parts = list(block)
        inner = shortcut = x
        if _is_shortcut(parts[-1]):
            shortcut = step(parts.pop(), x, None)
        for name in parts[:-1]:
            inner = step(name, inner, None)
        x = step(parts[-1], inner, shortcut)
    return x


def _is_shortcut(name: str) -> bool:
    """Nothing but a shortcut goes without ReLU."""
    return "downsample" in name


class Range(NamedTuple):
    """value = (level - zero) · scale, level from 0 to 255."""

    scale: float
    zero: int

    @staticmethod
    def of(low: float, high: float) -> Range:
        """0 is always one of the levels: convolutions pad with it."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max(high - low, _SMALLEST) / _LEVELS
        return Range(scale, round(-low / scale))

    def levels(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) as bytes, channels last."""
        levels = (x.float() / self.scale + self.zero).round_().clamp_(0, _LEVELS)
        return levels.to(torch.uint8, memory_format=torch.channels_last)


@dataclass(frozen=True)
class Int8Convolution:
    """From bytes to bytes. weight: (O, I, k, k) packed; scale, zeros, bias: (O)."""

    weight: Tensor
    scale: Tensor
    zeros: Tensor
    bias: Tensor
    layout: tuple[list[int], list[int], list[int], int]
    source: Range
    target: Range
    added: Range | None
    unary: str

    @staticmethod
    def of(
        convolution: nn.Conv2d, shape: torch.Size, source: Range, target: Range, *, added: Range | None, relu: bool
    ) -> Int8Convolution:
        """shape: of a map that it will read, by which oneDNN chooses the weight's layout; others are read as well.
        added: the range of what is added to the answer.
        """
        c, weight = convolution, convolution.weight.detach().float()
        assert not isinstance(c.padding, str)
        assert c.bias is not None
        scale = weight.abs().amax((1, 2, 3)).clamp_(min=_SMALLEST) / _WEIGHT_LEVELS
        levels = (weight / scale[:, None, None, None]).round_().to(torch.int8)
        layout = list(c.stride), list(c.padding), list(c.dilation), c.groups
        packed = torch.ops.onednn.qconv_prepack(levels, scale, *source, *layout, list(shape))
        zeros, bias = torch.zeros(len(scale), dtype=torch.int32), c.bias.detach().float()
        return Int8Convolution(packed, scale, zeros, bias, layout, source, target, added, "relu" if relu else "none")

    def __call__(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """``other`` may be written over."""
        given = x, *self.source, self.weight, self.scale, self.zeros
        out, unary = (*self.target, torch.uint8), (self.unary, [], "")
        if other is None or self.added is None:
            return torch.ops.onednn.qconv2d_pointwise(*given, self.bias, *self.layout, *out, *unary)
        return torch.ops.onednn.qconv2d_pointwise.binary(
            *given, other, self.bias, *self.layout, *out, *self.added, "sum", 1.0, *unary
        )


class Int8ResNet(nn.Module):
    """pixels (B, 3, H, W) of any float type → the last stage's map alone, in a tuple, in that type."""

    def __init__(self, resnet: ResNet, pictures: Iterable[Tensor]) -> None:
        """resnet: with folded norms. pictures: each (B, 3, H, W), normalised, such as it will see; their number and
        size may differ.

        Raises ConfigError without pictures, for one of another shape or with a NaN or infinity in it, and where the CPU
        or this PyTorch has no such instructions.
        """
        super().__init__()
        if not computes_int8():
            raise ConfigError("8-bit convolutions cannot be had: this machine has no instructions for them (VNNI).",
                              hint="Predict in bfloat16 or float32.")  # fmt: skip
        convolutions = {name: part for name, part in resnet.named_modules() if isinstance(part, nn.Conv2d)}
        ranges, shapes = _seen(convolutions, pictures)
        self._convolutions: dict[str, Int8Convolution] = {}

        def lay_out(name: str, x: str, other: str | None) -> str:
            self._convolutions[name] = Int8Convolution.of(
                convolutions[name], shapes[name], ranges[x], ranges[name],
                added=None if other is None else ranges[other], relu=not _is_shortcut(name),
            )  # fmt: skip
            return name

        last = _walk(list(convolutions), _PIXELS, lay_out, lambda name: name)
        self._pixels, self._map = ranges[_PIXELS], ranges[last]
        self._names = list(convolutions)

    def forward(self, pixels: Tensor) -> tuple[Tensor]:
        def convolve(name: str, x: Tensor, other: Tensor | None) -> Tensor:
            return self._convolutions[name](x, other)

        levels = _walk(self._names, self._pixels.levels(pixels), convolve, _pool_bytes)
        # Bytes know no NaN: a picture that holds one, or an infinity, is to end in NaN as it does in floats.
        nothing = pixels.float().sum((1, 2, 3), keepdim=True).mul_(0).to(pixels.dtype)
        return (levels.to(pixels.dtype).mul_(self._map.scale).add_(nothing),)


def _pool_bytes(x: Tensor) -> Tensor:
    return torch.ops.quantized.max_pool2d(x, [3, 3], [2, 2], [1, 1], [1, 1], False)


@torch.no_grad()
def _seen(
    convolutions: Mapping[str, nn.Conv2d], pictures: Iterable[Tensor]
) -> tuple[dict[str, Range], dict[str, torch.Size]]:
    """The range of the pixels and of what comes out of each convolution; the shape of a map that each has read."""
    ends: dict[str, tuple[float, float]] = {}
    shapes: dict[str, torch.Size] = {}

    def note(name: str, x: Tensor) -> Tensor:
        low, high = (float(end) for end in x.aminmax())
        before = ends.get(name, (low, high))
        ends[name] = min(low, before[0]), max(high, before[1])
        return x

    def convolve(name: str, x: Tensor, other: Tensor | None) -> Tensor:
        shapes[name] = x.shape
        out = convolutions[name](x)
        if other is not None:
            out += other
        return note(name, out if _is_shortcut(name) else out.relu_())

    for number, picture in enumerate(pictures, start=1):
        if picture.ndim != 4 or picture.shape[1] != 3 or not math.isfinite(float(picture.float().sum())):
            raise ConfigError(f"sample picture {number}, of shape {tuple(picture.shape)}, cannot give ranges.",
                              hint="Expected are finite numbers of shape (B, 3, H, W).")  # fmt: skip
        pixels = note(_PIXELS, picture.float())
        _walk(list(convolutions), pixels, convolve, lambda x: F.max_pool2d(x, 3, stride=2, padding=1))
    if not ends:
        raise ConfigError("8-bit convolutions need sample pictures, none were given.",
                          hint="Give a few, such as the model will see.")  # fmt: skip
    return {name: Range.of(low, high) for name, (low, high) in ends.items()}, shapes
