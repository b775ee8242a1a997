"""The network as a graph for export takes it: named tensors in, named tensors out, and nothing else.

Names in are ``<group>.<array>`` (``text.input_ids``, ``history.image.pixels``, …), with ``<group>.mask`` and
``<group>.positions``, each (B, L, …); names out are ``<target>.<output>``. Neither the numbers of the examples nor a
seed is among them: random noise is an input.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from polydetr.model.model import PolyModel
from polydetr.nn.batch import Batch, TokenGroup

NOISY, TIME = "noisy", "time"
"""What one step of generation reads beside the groups: noisy images (B, C, S, S), and their times in 0 … 1 (B,)."""


class GraphModel(nn.Module):
    """All outputs but generated images, in one pass; no size depends on the values of a tensor."""

    def __init__(self, model: PolyModel, targets: Collection[str]) -> None:
        super().__init__()
        self.model, self.targets = model, tuple(targets)

    def forward(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        outputs = self.model(batch_of(tensors), self.targets, last_only=True, by_shape=True)
        return {f"{target}.{name}": tensor for target, named in outputs.items() for name, tensor in named.items()}


class PaintingStep(nn.Module):
    """The velocity of noisy images, ``<target>.velocity`` (B, C, S, S): one step, which a solver outside repeats
    (``nn.flow.solve``). Without any group it is the unconditional one, as guidance needs it.
    """

    def __init__(self, model: PolyModel, target: str) -> None:
        super().__init__()
        self.model, self.target = model, target

    def forward(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        groups = {name: tensor for name, tensor in tensors.items() if name not in (NOISY, TIME)}
        batch = batch_of(groups) if groups else None
        return {f"{self.target}.velocity": self.model.velocity(self.target, batch, tensors[NOISY], tensors[TIME])}


def tensors_of(batch: Batch) -> dict[str, Tensor]:
    """The tensors of a batch's groups, by name."""
    tensors: dict[str, Tensor] = {}
    for name, group in batch.groups.items():
        named = {**group.values, "mask": group.mask, "positions": group.positions}
        tensors |= {f"{name}.{array}": tensor for array, tensor in named.items()}
    return tensors


def batch_of(tensors: Mapping[str, Tensor]) -> Batch:
    """The inverse; its examples have no numbers, and nothing is learned from them."""
    values: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        group, _, array = name.partition(".")
        values.setdefault(group, {})[array] = tensor
    groups = {name: TokenGroup(arrays, arrays.pop("mask"), arrays.pop("positions")) for name, arrays in values.items()}
    first = next(iter(groups.values())).mask
    return Batch(groups, {}, (), torch.ones(first.shape[0], device=first.device))
