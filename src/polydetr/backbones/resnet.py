"""ResNet-18/34/50/101: residual blocks, basic or bottleneck, whose batch statistics are frozen.

    block(x) = relu(convolutions(x) + shortcut(x)),  convolutions 3×3, 3×3 (basic) or 1×1, 3×3, 1×1 (bottleneck)

Source: He et al. 2015 (arXiv 1512.03385); the stride of a bottleneck sits in its 3×3 convolution, as in torchvision.
A DETR's ResNet also projects its coarsest map to the width of the transformer.

Shapes: N images, (N, 3, H, W) in; out {stride: (N, C, h, w)} at strides 8, 16 and 32, or 8 and 16 with ``dilated``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polydetr.backbones.convnet import ConvNorm
from polydetr.backbones.folders import fitting
from polydetr.errors import BackboneError
from polydetr.specs.resnet import our_key


class Block(nn.Module):
    """relu(convolutions(x) + shortcut(x)); stride and dilation are those of its first 3×3 convolution."""

    def __init__(self, inputs: int, outputs: int, *, bottleneck: bool, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        middle = outputs // 4 if bottleneck else outputs
        if bottleneck:
            convolutions = [
                ConvNorm(inputs, middle, activation="relu"),
                ConvNorm(middle, middle, kernel=3, stride=stride, dilation=dilation, activation="relu"),
                ConvNorm(middle, outputs, activation="relu"),
            ]
        else:
            convolutions = [
                ConvNorm(inputs, middle, kernel=3, stride=stride, dilation=dilation, activation="relu"),
                ConvNorm(middle, outputs, kernel=3, activation="relu"),
            ]
        self.convolutions = nn.ModuleList(convolutions)
        same = stride == 1 and inputs == outputs
        self.shortcut = None if same else ConvNorm(inputs, outputs, stride=stride, activation="none")

    def forward(self, x: Tensor) -> Tensor:
        *first, last = self.convolutions
        hidden = x
        for convolution in first:
            hidden = convolution(hidden)
        return last(hidden, x if self.shortcut is None else self.shortcut(x))


class ResNet(nn.Module):
    """``layers``: the stem, the blocks, and the projection where there is one.

    dilated: the last stage keeps the stride and widens its kernels (DC5); projected: the width to which the coarsest
    map is brought. Raises :class:`BackboneError` for another number of stages than four, or sizes below 1.
    """

    def __init__(
        self,
        *,
        depths: Sequence[int],
        bottleneck: bool,
        stem: int,
        widths: Sequence[int],
        dilated: bool = False,
        projected: int | None = None,
    ) -> None:
        super().__init__()
        if len(depths) != 4 or len(widths) != 4 or min(*depths, *widths, stem) < 1:
            raise BackboneError(f"depths={depths} and widths={widths} must be four positive numbers each.")
        layers: list[nn.Module] = [ConvNorm(3, stem, kernel=7, stride=2, activation="relu")]
        self._taken: dict[int, int] = {}
        width, stride = stem, 4
        for stage, (depth, outputs) in enumerate(zip(depths, widths, strict=True), start=1):
            step = 1 if stage == 1 or (dilated and stage == 4) else 2
            stride *= step
            for number in range(depth):
                first = number == 0
                # The first block of a dilated stage still reads a map of the stage before, without dilation.
                dilation = 2 if dilated and stage == 4 and not first else 1
                layers.append(
                    Block(width, outputs, bottleneck=bottleneck, stride=step if first else 1, dilation=dilation)
                )
                width = outputs
            self._taken[stride] = len(layers) - 1
        del self._taken[4]
        if projected is not None:
            layers.append(nn.Conv2d(width, projected, 1))
            self._taken[stride] = len(layers) - 1
        self.layers = nn.ModuleList(layers)

    def forward(self, pixels: Tensor) -> dict[int, Tensor]:
        """pixels (N, 3, H, W), normalized -> stride -> (N, C, ⌈H/stride⌉, ⌈W/stride⌉)."""
        taken = {index: stride for stride, index in self._taken.items()}
        maps: dict[int, Tensor] = {}
        x = pixels.contiguous(memory_format=torch.channels_last)
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index == 0:
                x = F.max_pool2d(x, 3, stride=2, padding=1)
            if index in taken:
                maps[taken[index]] = x
        return maps


def resnet_weights(state: Mapping[str, Tensor], encoder: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors by torchvision's names under those of ``ResNet(**encoder)``; a classifier at the end is left out.

    Raises:
        BackboneError: tensors are missing, unknown, or of another shape.
    """
    named = {our_key(k, encoder["depths"]): v for k, v in state.items() if not k.startswith(("fc.", "classifier."))}
    with torch.device("meta"):
        expected = ResNet(**encoder).state_dict()
    return fitting(named, expected, what="this ResNet")
