"""Whether a description fits its weights, seen from the weights' header alone: before memory is taken for a model that
claims to be larger than its file.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from polydetr.config.sections import ModelConfig
from polydetr.core.plugs import EMBEDDERS, HEADS
from polydetr.modalities.base import Modality
from polydetr.model.model import PolyModel
from polydetr.tasks.base import Task


def check_sizes(path: Path, modalities: Mapping[str, Modality], tasks: Mapping[str, Task], config: ModelConfig) -> None:
    """Compares the tensors of a safetensors file with those of the model that is described.

    Raises:
        ValueError: they are not the same, by name and shape. SafetensorError, OSError: the file cannot be read.
    """
    with safe_open(path, "pt") as file:
        there = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    # Imported now: what a module computes while it is imported must not land on the device without memory.
    for registry, names in ((EMBEDDERS, modalities), (HEADS, [task.kind for task in tasks.values()])):
        for name in names:
            registry.find(name)
    with torch.device("meta"), _Unfilled(), _at_most(4 * len(there) + 64):
        model = PolyModel(modalities, tasks, config)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name in sorted(wanted.keys() | there.keys()):
        if wanted.get(name) != there.get(name):
            raise ValueError(
                f"its description and its weights differ: {name} is {_shown(wanted.get(name))} by the one, "
                f"{_shown(there.get(name))} by the other"
            )


class _Unfilled(TorchFunctionMode):
    """Leaves tensors as they are that would be filled at random. Without memory there is nothing to fill, and to do
    so all the same PyTorch imports its compiler, which takes a second.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ in _RANDOM:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


_RANDOM = frozenset({
    "normal_", "uniform_", "trunc_normal_", "xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_",
    "orthogonal_",
})  # fmt: skip


def check_finite(state: Mapping[str, Tensor]) -> None:
    """Raises ValueError where a weight is not a number: a model that was trained has none."""
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} holds values that are not numbers")


def _shown(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else "×".join(map(str, shape)) or "one number"


@contextmanager
def _at_most(count: int) -> Iterator[None]:
    """Ends the building of modules in this thread with ValueError once they have more parameters than ``count``."""
    thread, made = threading.get_ident(), 0

    def counted(module: nn.Module, name: str, parameter: Any) -> None:
        nonlocal made
        made += threading.get_ident() == thread
        if made > count:
            raise ValueError("its description tells of far more layers than its weights have")

    hook = register_module_parameter_registration_hook(counted)
    try:
        yield
    finally:
        hook.remove()
