"""The names of MobileNetV2's weights in torchvision's files."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from polydetr.backbones.convnet import take_weights

CLASSIFIER = ("classifier.1.weight", "classifier.1.bias")


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Torchvision's weights under our names, without the classifier. Raises :class:`BackboneError`."""
    names = {"layers.0": ("features.0.0", "features.0.1"), "layers.18": ("features.18.0", "features.18.1")}
    for index in range(1, 18):
        parts = ("expand", "depthwise", "project")[index == 1 :]  # the first block does not widen
        for place, part in enumerate(parts):
            base = f"features.{index}.conv.{place}"
            after = f"features.{index}.conv.{place + 1}"
            names[f"layers.{index}.{part}"] = (base, after) if part == "project" else (f"{base}.0", f"{base}.1")
    return take_weights(state, names)
