"""Image encoders from their specs: built with random weights, or with the pretrained ones.

Every encoder is a module from pixels (N, 3, H, W), normalized, to its features by stride, {stride: (N, C, h, w)}. The
packaged weights are PyTorch files: they are read once, with ``weights_only=True`` (no code runs), and kept as
safetensors beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from polydetr.backbones import efficientnet, mobilenet
from polydetr.backbones.convnet import InvertedResidualEncoder
from polydetr.backbones.vision_wrapped import PatchEncoder, TransformersVisionEncoder, pretrained_vision_state
from polydetr.core.files import written_atomically
from polydetr.errors import BackboneError
from polydetr.specs.image import DEFAULT, ImageSpec

_CONVERT = {"mobilenet-v2": mobilenet.convert, "efficientnet-lite0": efficientnet.convert}
_CONVERTED, _CONVERTER = "model.safetensors", "1"


def build(spec: ImageSpec) -> nn.Module:
    """The encoder with random weights: forward(pixels (N, 3, H, W)) → {stride: (N, C, h, w)}."""
    architecture = spec.config["architecture"]
    if architecture == "inverted-residuals":
        return InvertedResidualEncoder(**spec.config["encoder"])
    if architecture == "patches":
        return PatchEncoder(patch_size=spec.stride, hidden_dim=spec.hidden_dim)
    return TransformersVisionEncoder(spec.config["hf_config"], stride=spec.stride)


def weights(spec: ImageSpec) -> dict[str, Tensor]:
    """The pretrained weights in fp32, under the names of :func:`build`'s state dict; read from disk on every call.

    Raises :class:`BackboneError` where the checkpoint does not fit, and where there is none (see ``source``).
    """
    if spec.source is None:
        raise BackboneError(
            f"backbone {spec.name!r} has no pretrained weights here: it is trained from random ones, or was "
            "restored from a model folder, which keeps the weights in the model's own file.",
            hint=f"Load a pretrained one with load_image_spec({DEFAULT!r}).",
        )
    if spec.config["architecture"] == "inverted-residuals":
        return _CONVERT[spec.name](packaged_state(spec.source))
    return pretrained_vision_state(spec.source, spec.config["hf_config"])


def pretrained(spec: ImageSpec) -> nn.Module:
    """The encoder with the pretrained weights."""
    encoder = build(spec)
    encoder.load_state_dict(weights(spec))
    return encoder


def packaged_state(folder: Path) -> Mapping[str, Tensor]:
    """The tensors of a packaged PyTorch file, classifier included: read once, then from safetensors beside it.

    Raises :class:`BackboneError` where the file is not what it should be.
    """
    packed, plain = folder / "weights.pth", folder / _CONVERTED
    found = packed.stat()
    origin = f"{_CONVERTER}:{found.st_size}:{found.st_mtime_ns}"
    try:
        with safe_open(plain, "pt") as file:
            fresh = (file.metadata() or {}).get("origin") == origin
        if fresh:
            return load_file(plain)
    except (OSError, SafetensorError):
        pass  # not there yet, or cut off: made anew
    try:
        state = torch.load(packed, weights_only=True, map_location="cpu")
        state = {name: tensor.contiguous() for name, tensor in state.items()}
    except Exception as error:  # a broken archive, or one that wants more than tensors
        raise BackboneError(
            f"{packed} cannot be read: {error}.", hint="Remove it, so that it is fetched again."
        ) from error
    try:
        with written_atomically(plain) as target:
            target.write(save(state, metadata={"origin": origin}))
    except OSError:
        pass  # a cache that cannot be written still serves
    return state
