"""The devices that one model trains on: one, or several with a process for each, started by Lightning Fabric.

Every process runs the same script and the same ``fit``. Each takes its share of the batches, the gradients are
averaged, and all take the same step. What a clock, a file or the user decides is decided in the first process, and all
writing is done there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from polydetr.errors import ConfigError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_T = TypeVar("_T")


def is_first_process() -> bool:
    """Whether this process is the one that writes and reports; the only one, where nothing started several."""
    return "LOCAL_RANK" not in os.environ or int(os.environ.get("RANK", os.environ["LOCAL_RANK"])) == 0


def open_devices(count: int) -> Devices:
    """The one device, or ``count`` of them, of which each process has its own when this returns.

    Raises:
        ConfigError: the machine has fewer GPUs, or this process was started as one of another number.
    """
    started = int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else count
    if started != count:
        raise ConfigError(
            f"training.devices = {count}, and this process is one of {started} that were started together.",
            hint=f"Set training.devices: {started}, or start one process.",
        )
    gpus = torch.cuda.device_count()
    if gpus and count > gpus:
        raise ConfigError(f"training.devices = {count}: this machine has {gpus}.", hint="Ask for fewer.")
    if count == 1:
        return Devices()
    # Imported here: a run on one device does without its two seconds.
    from lightning_fabric import Fabric

    fabric = Fabric(accelerator="cuda" if gpus else "cpu", strategy="ddp", devices=count)
    fabric.launch()
    return Devices(fabric)


class Devices:
    """``count`` processes; this one has number ``rank`` and computes on ``device``. Alone, every method is free.

    All processes must call the same methods in the same order: each waits for the others.
    """

    def __init__(self, fabric: Fabric | None = None) -> None:
        self._fabric = fabric
        self.count = fabric.world_size if fabric else 1
        self.rank = fabric.global_rank if fabric else 0
        self.device = fabric.device if fabric else torch.device("cuda:0" if torch.cuda.is_available() else "cpu")

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def agree(self, value: _T) -> _T:
        """The first process's value, in all of them."""
        return self._fabric.broadcast(value) if self._fabric else value

    def in_first(self, function: Callable[[], _T]) -> _T:
        """What ``function`` returns in the first process, while the others wait; what it raises is raised in all."""
        if self._fabric is None:
            return function()
        self._fabric.barrier()
        result, error = None, None
        if self.is_first:
            try:
                result = function()
            except Exception as raised:  # the others would wait for it for ever
                error = raised
        result, shared = self.agree((result, error))
        if error or shared:
            raise error or shared  # type: ignore[misc]  # with its traceback where that is
        return result  # type: ignore[return-value]

    def first_then_all(self, function: Callable[[], _T]) -> _T:
        """``function`` in each process, the others after the first: they find the files that it wrote."""
        if self._fabric is None:
            return function()
        kept: list[_T] = []
        self.in_first(lambda: kept.append(function()))
        return kept[0] if kept else function()

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        """The values of every process, in the order of their ranks."""
        if self._fabric is None:
            return [list(values)]
        return self.gather_tensor(torch.tensor(values, dtype=torch.float64)).tolist()

    def gather_tensor(self, tensor: Tensor) -> Tensor:
        """Every process's tensor of one shape, stacked, on the CPU."""
        if self._fabric is None:
            return tensor[None]
        mine = tensor.to(self.device)
        tensors = [torch.empty_like(mine) for _ in range(self.count)]
        torch.distributed.all_gather(tensors, mine)
        return torch.stack(tensors).cpu()

    @torch.no_grad()
    def same_weights(self, model: nn.Module) -> None:
        """Puts the first process's parameters and buffers into every model."""
        if self._fabric is not None:
            for tensor in model.state_dict().values():
                torch.distributed.broadcast(tensor, 0)

    @torch.no_grad()
    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replaces each gradient by its mean over the processes, in float32; one without counts as zero, and stays away
        where no process has one.
        """
        if self._fabric is None:
            return
        learning = list(parameters)
        there = torch.tensor([float(p.grad is not None) for p in learning], device=self.device)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in learning]
        flat = torch.cat([there, *(gradient.float().flatten() for gradient in gradients)])
        torch.distributed.all_reduce(flat)
        counts, *means = flat.split([len(learning), *(p.numel() for p in learning)])
        for parameter, count, mean in zip(learning, counts.tolist(), means, strict=True):
            if count:
                parameter.grad = (mean / self.count).view_as(parameter).to(parameter.dtype)
