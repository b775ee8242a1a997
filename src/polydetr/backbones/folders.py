"""Reads the weights of a model folder in Hugging Face's layout: safetensors, nothing that could run."""

from __future__ import annotations

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
