"""Reads the weights of a model folder in Hugging Face's layout: safetensors, nothing that could run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from polydetr.errors import BackboneError
from polydetr.specs.folders import weight_files
from polydetr.specs.image import ImageSpec
from polydetr.specs.text import TextSpec


def source_of(spec: TextSpec | ImageSpec) -> Path:
    """Where the pretrained weights of a backbone lie. Raises :class:`BackboneError` where it has none."""
    if spec.source is None:
        raise BackboneError(
            f"backbone {spec.name!r} has no pretrained weights here: it is trained from random ones, or was "
            "restored from a model folder, which keeps the weights in the model's own file.",
            hint="Load the spec of a pretrained one by its name.",
        )
    return spec.source


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the folder's safetensors files, floating-point ones in fp32."""
    state: dict[str, Tensor] = {}
    for path in weight_files(folder):
        try:
            state |= load_file(path)
        except (SafetensorError, OSError) as error:
            raise BackboneError(f"{path} cannot be read: {error}.", hint="Copy or fetch the file again.") from error
    return {name: t.to(torch.float32) if t.is_floating_point() else t for name, t in state.items()}


def fitting(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, what: str) -> dict[str, Tensor]:
    """``state``, without the counters of batch norms, once its names and shapes are those of ``expected``.

    Raises :class:`BackboneError` naming the tensors that are missing, unknown, or of another shape.
    """
    tensors = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    faults = [f"{name} is missing" for name in expected.keys() - tensors.keys()]
    faults += [f"{name} is unknown" for name in tensors.keys() - expected.keys()]
    faults += [
        f"{name} has shape {tuple(tensors[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in expected.keys() & tensors.keys()
        if expected[name].shape != tensors[name].shape
    ]
    if faults:
        raise BackboneError(
            f"these weights are not those of {what}; {len(faults)} tensors differ: {'; '.join(sorted(faults)[:5])}.",
            hint="Names are shown as polydetr has them.",
        )
    return tensors
