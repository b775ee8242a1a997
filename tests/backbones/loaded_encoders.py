"""Encoders with their pretrained weights, as a fresh model gets them."""

from __future__ import annotations

from torch import nn

from polydetr.backbones import image, text
from polydetr.specs.image import ImageSpec
from polydetr.specs.text import TextSpec


def pretrained(spec: TextSpec | ImageSpec) -> nn.Module:
    encoders = text if isinstance(spec, TextSpec) else image
    encoder = encoders.build(spec)  # type: ignore[arg-type]
    encoder.load_state_dict(encoders.weights(spec))  # type: ignore[arg-type]
    return encoder
