"""MobileNetV2: its shape, and the names of its weights in torchvision's files.

Source: Sandler et al. 2018, arXiv 1801.04381, table 2. Pixels from 0 to 1, less ImageNet's mean, by its deviation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ENCODER: dict[str, Any] = {
    "stem": 32,
    "blocks": [
        [1, 16, 1, 1, 3],
        [6, 24, 2, 2, 3],
        [6, 32, 3, 2, 3],
        [6, 64, 4, 2, 3],
        [6, 96, 3, 1, 3],
        [6, 160, 3, 2, 3],
        [6, 320, 1, 1, 3],
    ],
    "head": 1280,
    "eps": 1e-5,
    "same_padding": False,
}
CLASSIFIER = ("classifier.1.weight", "classifier.1.bias")


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Torchvision's weights under our names, without the classifier. Raises :class:`BackboneError`."""
    from polydetr.backbones.convnet import take_weights

    names = {"layers.0": ("features.0.0", "features.0.1"), "layers.18": ("features.18.0", "features.18.1")}
    for index in range(1, 18):
        parts = ("expand", "depthwise", "project")[index == 1 :]  # the first block does not widen
        for place, part in enumerate(parts):
            base = f"features.{index}.conv.{place}"
            after = f"features.{index}.conv.{place + 1}"
            names[f"layers.{index}.{part}"] = (base, after) if part == "project" else (f"{base}.0", f"{base}.1")
    return take_weights(state, names)
