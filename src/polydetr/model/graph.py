"""The network as graphs for export take it: named tensors in, named tensors out (``core.graphs``), and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from polydetr.core.graphs import MASK, NOISY, TIME, TOKENS, UNCONDITIONAL, VELOCITY, output_name
from polydetr.model.model import PolyModel
from polydetr.nn.batch import Batch, Embedded, TokenGroup


class GraphModel(nn.Module):
    """All outputs but generated images, in one pass; no size depends on the values of a tensor.

    with_tokens: also the row's tokens and masks, from which ``PaintingStep`` goes on.
    """

    def __init__(self, model: PolyModel, targets: Collection[str], *, with_tokens: bool = False) -> None:
        super().__init__()
        self.model, self.targets, self.with_tokens = model, tuple(targets), with_tokens

    def names(self, tensors: Mapping[str, Tensor]) -> dict[str, tuple[str, str]]:
        """The name in ``forward`` of each target's outputs → the target, and the output's own name."""
        outputs = self.model(batch_of(tensors), self.targets, last_only=True, by_shape=True) if self.targets else {}
        return {output_name(target, name): (target, name) for target, named in outputs.items() for name in named}

    def forward(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        batch = batch_of(tensors)
        embedded = self.model.embed(batch)
        found: dict[str, Tensor] = {}
        if self.targets:
            outputs = self.model(batch, self.targets, last_only=True, by_shape=True, embedded=embedded)
            found = {output_name(target, name): x for target, named in outputs.items() for name, x in named.items()}
        if self.with_tokens:
            for name, group in embedded.items():
                found |= {f"{TOKENS}{name}": group.tokens, f"{MASK}{name}": group.mask.clone()}  # may be an input
        return found


class PaintingStep(nn.Module):
    """The velocity of noisy images, (B, C, S, S): one step, which a solver outside repeats (``core.flow.solve``).

    with_unconditional: also the one without the row, as guidance needs it.
    """

    def __init__(self, model: PolyModel, target: str, *, with_unconditional: bool) -> None:
        super().__init__()
        self.model, self.target, self.with_unconditional = model, target, with_unconditional

    def forward(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        names = [name.removeprefix(TOKENS) for name in tensors if name.startswith(TOKENS)]
        embedded = {name: Embedded(tensors[f"{TOKENS}{name}"], tensors[f"{MASK}{name}"]) for name in names}
        noisy, time = tensors[NOISY], tensors[TIME]
        found = {VELOCITY: self.model.velocity(self.target, embedded, noisy, time)}
        if self.with_unconditional:
            found[UNCONDITIONAL] = self.model.velocity(self.target, {}, noisy, time)
        return found


def batch_of(tensors: Mapping[str, Tensor]) -> Batch:
    """The inverse of ``core.graphs.feeds_of``; its examples have no numbers, and nothing is learned from them."""
    values: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        group, _, array = name.partition(".")
        values.setdefault(group, {})[array] = tensor
    groups = {name: TokenGroup(arrays, arrays.pop("mask"), arrays.pop("positions")) for name, arrays in values.items()}
    first = next(iter(groups.values())).mask
    return Batch(groups, {}, (), torch.ones(first.shape[0], device=first.device))
