"""The weights that a model folder holds: float32, and in memory only once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from polydetr.errors import ModelFolderError


class Masters:
    """A model's weights in float32, to save: its own where it computes in float32, and the exact values of those that
    it holds rounded.

    The exact values stand in memory until there is a file that holds them; that file is kept open, so that another
    model saved in its place changes nothing here.
    """

    def __init__(self, model: nn.Module, exact: Mapping[str, Tensor]) -> None:
        """exact: what the model was rounded from; a weight that was learned in bfloat16 alone is its own master."""
        self._model = model
        self._file: Any = None
        self._kept = {
            name: exact[name].detach().clone() for name in _rounded(model) if exact[name].dtype == torch.float32
        }

    @classmethod
    def in_file(cls, model: nn.Module, path: Path) -> Masters:
        """Of a model that was loaded from the safetensors file ``path``. Raises ModelFolderError."""
        masters = cls(model, model.state_dict())
        masters.keep_in(path)
        return masters

    def tensors(self) -> dict[str, Tensor]:
        """Every weight by its name.

        Raises:
            ModelFolderError: the file that holds them was overwritten since; its values are not those in use.
        """
        used = self._model.state_dict()
        exact = {name: self._file.get_tensor(name) for name in _rounded(self._model)} if self._file else self._kept
        for name, tensor in exact.items():
            if tensor.shape != used[name].shape or not tensor.to(used[name]).equal(used[name]):
                raise ModelFolderError(
                    f"the file that the model was loaded from was overwritten since ({name} is another).",
                    hint="Load the model again; with precision='fp32' it needs its file no more.",
                )
        return {**used, **exact}

    def keep_in(self, path: Path) -> None:
        """From now on ``path``, where ``tensors()`` was written, holds what memory held. Raises ModelFolderError."""
        if self._file is not None or not _rounded(self._model):
            return
        try:
            self._file = safe_open(path, framework="pt")
        except (OSError, SafetensorError) as error:
            raise ModelFolderError(f"{str(path)!r} cannot be read: {error}.") from error
        self._kept = {}


def _rounded(model: nn.Module) -> list[str]:
    return [n for n, t in model.state_dict().items() if t.is_floating_point() and t.dtype != torch.float32]
