"""The weights of the packaged image encoders (``specs.packaged``): their files, and their names in our modules.

The files are PyTorch's: they are read once, with ``weights_only=True`` (no code runs), and kept as safetensors beside
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from polydetr.core.files import written_atomically
from polydetr.errors import BackboneError

_CONVERTED, _CONVERTER = "model.safetensors", "1"


def packaged_state(folder: Path) -> Mapping[str, Tensor]:
    """The tensors of a packaged PyTorch file, classifier included: read once, then from safetensors beside it.

    Raises :class:`BackboneError` where the file is not what it should be.
    """
    packed, plain = folder / "weights.pth", folder / _CONVERTED
    stat = packed.stat()
    origin = f"{_CONVERTER}:{stat.st_size}:{stat.st_mtime_ns}"
    try:
        with safe_open(plain, "pt") as file:
            fresh = (file.metadata() or {}).get("origin") == origin
        if fresh:
            return load_file(plain)
    except (OSError, SafetensorError):
        pass  # not there yet, or cut off: written again
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


def mobilenet_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Torchvision's MobileNetV2 under our names, without the classifier. Raises :class:`BackboneError`."""
    names = {"layers.0": ("features.0.0", "features.0.1"), "layers.18": ("features.18.0", "features.18.1")}
    for index in range(1, 18):
        parts = ("expand", "depthwise", "project")[index == 1 :]  # the first block does not widen
        for place, part in enumerate(parts):
            base = f"features.{index}.conv.{place}"
            after = f"features.{index}.conv.{place + 1}"
            names[f"layers.{index}.{part}"] = (base, after) if part == "project" else (f"{base}.0", f"{base}.1")
    return _renamed(state, names)


def efficientnet_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The packaged EfficientNet-Lite0 under our names, without the classifier. Raises :class:`BackboneError`."""
    names = {"layers.0": ("_conv_stem", "_bn0"), "layers.17": ("_conv_head", "_bn1")}
    for index in range(16):
        base, ours = f"_blocks.{index}", f"layers.{index + 1}"
        if index:  # the first block does not widen
            names[f"{ours}.expand"] = (f"{base}._expand_conv", f"{base}._bn0")
        names[f"{ours}.depthwise"] = (f"{base}._depthwise_conv", f"{base}._bn1")
        names[f"{ours}.project"] = (f"{base}._project_conv", f"{base}._bn2")
    return _renamed(state, names)


CONVERT = {"mobilenet-v2": mobilenet_weights, "efficientnet-lite0": efficientnet_weights}
"""By the name of the backbone."""
_NORM = {"gain": "weight", "bias": "bias", "mean": "running_mean", "variance": "running_var"}


def _renamed(state: Mapping[str, Tensor], names: Mapping[str, tuple[str, str]]) -> dict[str, Tensor]:
    """Weights under our names. ``names``: our ConvNorm → (their convolution, their batch-norm).

    Raises :class:`BackboneError` where one is missing.
    """
    theirs = {f"{ours}.weight": f"{convolution}.weight" for ours, (convolution, _) in names.items()}
    for ours, (_, norm) in names.items():
        theirs |= {f"{ours}.{mine}": f"{norm}.{its}" for mine, its in _NORM.items()}
    if missing := sorted(set(theirs.values()) - state.keys()):
        raise BackboneError(
            f"the checkpoint lacks {len(missing)} weights, {missing[0]!r} first.",
            hint="Remove the file from the cache, so that it is fetched again.",
        )
    return {ours: state[name].to(torch.float32) for ours, name in theirs.items()}
