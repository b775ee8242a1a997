"""A ResNet described by the names and shapes of its tensors, as torchvision or Hugging Face call them.

Source: He et al. 2015 (arXiv 1512.03385), with the stride of a bottleneck in its 3×3 convolution, as in torchvision.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

Shapes = Mapping[str, Sequence[int]]
_OF_NORM = {"weight": "gain", "running_mean": "mean", "running_var": "variance"}
_PART = {"convolution": "conv", "normalization": "bn"}


def torchvision_key(key: str) -> str:
    """A name of Hugging Face's ResNet as torchvision has it; any other name unchanged."""
    key = key.removeprefix("resnet.")
    if match := re.fullmatch(r"embedder\.embedder\.(convolution|normalization)\.(\w+)", key):
        return f"{_PART[match[1]]}1.{match[2]}"
    if match := re.fullmatch(
        r"encoder\.stages\.(\d+)\.layers\.(\d+)\.(?:layer\.(\d+)|shortcut)\.(convolution|normalization)\.(\w+)", key
    ):
        block = f"layer{int(match[1]) + 1}.{match[2]}"
        if match[3] is None:
            return f"{block}.downsample.{int(match[4] == 'normalization')}.{match[5]}"
        return f"{block}.{_PART[match[4]]}{int(match[3]) + 1}.{match[5]}"
    return key


def our_key(key: str, depths: Sequence[int]) -> str:
    """torchvision's name, or that of a DETR's projection, as ``backbones.resnet.ResNet`` has it; others unchanged."""
    if key.startswith("input_projection."):
        return f"layers.{1 + sum(depths)}.{key.removeprefix('input_projection.')}"
    match = re.fullmatch(r"(?:layer(\d)\.(\d+)\.)?(?:(conv|bn)(\d)|downsample\.([01]))\.(\w+)", key)
    if match is None:
        return key
    stage, number, part, place, shortcut, kind = match.groups()
    layer = "layers.0" if stage is None else f"layers.{1 + sum(depths[: int(stage) - 1]) + int(number)}"
    if stage is not None:
        layer += ".shortcut" if shortcut else f".convolutions.{int(place) - 1}"
    return f"{layer}.{_OF_NORM.get(kind, kind) if part == 'bn' or shortcut == '1' else kind}"


def is_resnet(shapes: Shapes) -> bool:
    """shapes: by torchvision's names."""
    return {"conv1.weight", "bn1.running_mean", "layer4.0.conv2.weight"} <= shapes.keys()


def map_channels(
    *, widths: Sequence[int], dilated: bool = False, projected: int | None = None, **_: Any
) -> dict[int, int]:
    """Stride → channels of the maps that a ``backbones.resnet.ResNet`` of these arguments gives: the last features of
    each stride but 4.
    """
    strides = (4, 8, 16, 16 if dilated else 32)
    channels_at: dict[int, int] = dict(zip(strides, widths, strict=True))
    del channels_at[4]
    if projected is not None:
        channels_at[strides[-1]] = projected
    return channels_at


def describe_resnet(shapes: Shapes, *, dilated: bool = False) -> dict[str, Any]:
    """The arguments of ``backbones.resnet.ResNet``. shapes: by torchvision's names; dilated: the kind called DC5, which
    the tensors do not show.

    Raises:
        KeyError: a tensor that every ResNet has is missing.
    """
    depths = [len({m[1] for key in shapes if (m := re.match(rf"layer{stage}\.(\d+)\.", key))}) for stage in range(1, 5)]
    bottleneck = "layer1.0.conv3.weight" in shapes
    last = "conv3" if bottleneck else "conv2"
    return {
        "depths": depths,
        "bottleneck": bottleneck,
        "stem": shapes["conv1.weight"][0],
        "widths": [shapes[f"layer{stage}.0.{last}.weight"][0] for stage in range(1, 5)],
        "dilated": dilated,
    }
