"""The names of EfficientNet-Lite0's weights in the packaged file."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from polydetr.backbones.convnet import take_weights

CLASSIFIER = ("_fc.weight", "_fc.bias")


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The packaged file's weights under our names, without the classifier. Raises :class:`BackboneError`."""
    names = {"layers.0": ("_conv_stem", "_bn0"), "layers.17": ("_conv_head", "_bn1")}
    for index in range(16):
        base, ours = f"_blocks.{index}", f"layers.{index + 1}"
        if index:  # the first block does not widen
            names[f"{ours}.expand"] = (f"{base}._expand_conv", f"{base}._bn0")
        names[f"{ours}.depthwise"] = (f"{base}._depthwise_conv", f"{base}._bn1")
        names[f"{ours}.project"] = (f"{base}._project_conv", f"{base}._bn2")
    return take_weights(state, names)
