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
    found = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    faults = [f"{name} is missing" for name in expected.keys() - found.keys()]
    faults += [f"{name} is unknown" for name in found.keys() - expected.keys()]
    faults += [
        f"{name} has shape {tuple(found[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in expected.keys() & found.keys()
        if expected[name].shape != found[name].shape
    ]
    if faults:
        raise BackboneError(
            f"these weights are not those of {what}; {len(faults)} tensors differ: {'; '.join(sorted(faults)[:5])}.",
            hint="Names are shown as polydetr has them.",
        )
    return found
