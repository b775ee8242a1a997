"""Image encoders that are not the packaged ones, behind the same ``forward``: patches, and transformers' (ViT, Swin,
ConvNeXt, ...).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from polydetr.backbones.wrapped import TransformersEncoder, pretrained_state
from polydetr.errors import BackboneError


class PatchEncoder(nn.Module):
    """(N, 3, H, W) → {patch_size: (N, hidden_dim, H // patch_size, W // patch_size)}: one linear map of each patch."""

    def __init__(self, *, patch_size: int, hidden_dim: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.patches = nn.Conv2d(3, hidden_dim, patch_size, stride=patch_size)

    def forward(self, pixels: Tensor) -> dict[int, Tensor]:
        return {self.patch_size: self.patches(pixels)}


class TransformersVisionEncoder(nn.Module):
    """``AutoModel`` of a known architecture with random weights; no remote code.

    It stands in ``layers``, as the only one, so that it learns at the backbone's rate and can be frozen as one.
    Raises :class:`BackboneError` where transformers is missing or does not know ``model_type``.
    """

    def __init__(self, hf_config: Mapping[str, Any], *, stride: int) -> None:
        super().__init__()
        wrapped = TransformersEncoder(hf_config)
        self.layers = nn.ModuleList([wrapped.model])
        self.stride = stride
        # An encoder with learned positions for one size of image interpolates them for another.
        self.interpolates = "interpolate_pos_encoding" in inspect.signature(wrapped.model.forward).parameters

    def forward(self, pixels: Tensor) -> dict[int, Tensor]:
        """(N, 3, H, W) → {stride: (N, C, h, w)}. Tokens that stand for the whole image are left out."""
        options = {"interpolate_pos_encoding": True} if self.interpolates else {}
        hidden = self.layers[0](pixel_values=pixels, **options).last_hidden_state
        if hidden.dim() == 4:
            return {self.stride: hidden}
        height, width = (side // self.stride for side in pixels.shape[-2:])
        if height * width > hidden.shape[1] or not height * width:  # some pad the last, half cell
            height, width = (-(-side // self.stride) for side in pixels.shape[-2:])
        cells = hidden[:, hidden.shape[1] - height * width :]
        return {self.stride: cells.transpose(1, 2).unflatten(2, (height, width))}

    def train(self, mode: bool = True) -> TransformersVisionEncoder:
        """As in PyTorch, but batch statistics stay as they were learned: a few images would spoil them."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


class Shape(NamedTuple):
    """Channels and stride of the coarsest features, and the number of layers."""

    hidden_dim: int
    stride: int
    num_layers: int


def describe_vision(hf_config: Mapping[str, Any]) -> Shape:
    """Measured by one forward pass on the "meta" device, which computes nothing.

    Raises :class:`BackboneError` where it is no image encoder.
    """
    side = hf_config.get("image_size") or 224
    side = int(side[0] if isinstance(side, list | tuple) else side)
    try:
        with torch.device("meta"), torch.no_grad():
            model = TransformersEncoder(hf_config).model.eval()
            hidden = model(pixel_values=torch.empty(1, 3, side, side)).last_hidden_state
    except BackboneError:
        raise
    except Exception as error:  # whatever a text or sound encoder makes of an image
        raise BackboneError(
            f"a {hf_config.get('model_type')!r} encoder does not read images: {str(error).splitlines()[0][:200]}",
            hint="Choose an image encoder (ViT, ConvNeXt, Swin, ...).",
        ) from None
    width = hidden.shape[1] if hidden.dim() == 4 else hidden.shape[2]
    cells = hidden.shape[3] if hidden.dim() == 4 else math.isqrt(hidden.shape[1])
    return Shape(int(width), round(side / cells), int(getattr(model.config, "num_hidden_layers", 0) or 1))


def grid_of(hf_config: Mapping[str, Any], *, stride: int, size: int) -> int:
    """Cells per side of the features of an image of size x size pixels; measured as in :func:`describe_vision`."""
    with torch.device("meta"), torch.no_grad():
        features = TransformersVisionEncoder(hf_config, stride=stride).eval()(torch.empty(1, 3, size, size))
    return features[stride].shape[-1]


def pretrained_vision_state(folder: Path, hf_config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The folder's weights in fp32 under the names of :class:`TransformersVisionEncoder`'s state dict."""
    state = pretrained_state(folder, hf_config)
    return {f"layers.0.{name.removeprefix('model.')}": tensor for name, tensor in state.items()}
