"""The image encoders that come in packages: their shape, and how their pixels are normalized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class PackagedImageEncoder(NamedTuple):
    """encoder: the arguments of ``backbones.convnet.InvertedResidualEncoder``; blocks are (expansion, channels,
    repeats, stride of the first, kernel) for each stage. Pixels from 0 to 1 enter as (x - mean) / std.
    """

    encoder: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]


SCALES = (8, 16, 32)
"""Strides of the maps that such an encoder gives."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What most encoders of photographs were trained with."""


def map_channels(encoder: dict[str, Any]) -> dict[int, int]:
    """Stride → channels of the maps that an encoder of these arguments gives: the last features of each scale."""
    blocks: Sequence[Sequence[int]] = encoder["blocks"]
    stride, channels_at = 2, {2: encoder["stem"]}
    for _, channels, _, first, _ in blocks:
        stride *= first
        channels_at[stride] = channels
    channels_at[stride] = encoder["head"]
    return {scale: channels_at[scale] for scale in SCALES if scale in channels_at}


MOBILENET_V2 = PackagedImageEncoder(
    {
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
    },
    IMAGENET_MEAN,
    IMAGENET_STD,
)
"""Sandler et al. 2018, arXiv 1801.04381, table 2."""

EFFICIENTNET_LITE0 = PackagedImageEncoder(
    {
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
    },
    (127 / 255,) * 3,
    (128 / 255,) * 3,
)
"""Tan & Le 2019, arXiv 1905.11946, table 1, in the "Lite" form for phones: without squeeze-and-excitation, with ReLU6.
Trained in TensorFlow: its padding, its eps, and pixels from 0 to 255 that enter as (x - 127) / 128.
"""

PACKAGED = {"mobilenet-v2": MOBILENET_V2, "efficientnet-lite0": EFFICIENTNET_LITE0}
