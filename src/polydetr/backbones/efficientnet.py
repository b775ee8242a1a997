"""EfficientNet-Lite0: its shape, and the names of its weights in the packaged file.

Source: Tan & Le 2019, arXiv 1905.11946, table 1, in the "Lite" form for phones: without squeeze-and-excitation, with
ReLU6. Trained in TensorFlow: its padding, its eps, and pixels from 0 to 255 that enter as (x - 127) / 128.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
ENCODER: dict[str, Any] = {
    "stem": 32,
    "blocks": [
        [1, 16, 1, 1, 3],
        [6, 24, 2, 2, 3],
        [6, 40, 2, 2, 5],
        [6, 80, 3, 2, 3],
        [6, 112, 3, 1, 5],
        [6, 192, 4, 2, 5],
        [6, 320, 1, 1, 3],
    ],
    "head": 1280,
    "eps": 1e-3,
    "same_padding": True,
}
CLASSIFIER = ("_fc.weight", "_fc.bias")


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The packaged file's weights under our names, without the classifier. Raises :class:`BackboneError`."""
    from polydetr.backbones.convnet import take_weights

    names = {"layers.0": ("_conv_stem", "_bn0"), "layers.17": ("_conv_head", "_bn1")}
    for index in range(16):
        base, ours = f"_blocks.{index}", f"layers.{index + 1}"
        if index:  # the first block does not widen
            names[f"{ours}.expand"] = (f"{base}._expand_conv", f"{base}._bn0")
        names[f"{ours}.depthwise"] = (f"{base}._depthwise_conv", f"{base}._bn1")
        names[f"{ours}.project"] = (f"{base}._project_conv", f"{base}._bn2")
    return take_weights(state, names)
