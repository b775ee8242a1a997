"""Low-rank adaptation: tune a large linear map through two thin ones, then fold them in.

Source: Hu et al. 2021, "LoRA" (arXiv 2106.09685), section 4.1:

    y = W x + (α / r) B A x        A: r × in (``down``), B: out × r (``up``), B = 0 at the start
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from polydetr.errors import ConfigError, did_you_mean
from polydetr.nn.cpu.linear import Linear

if TYPE_CHECKING:
    from jaxtyping import Float

PLAIN = (nn.Linear, Linear)
Targets = str | re.Pattern[str] | Callable[[str, nn.Linear], bool]


class LoRALinear(nn.Module):
    """A frozen ``nn.Linear`` with a trainable update of the given rank; equal to the base until trained.

    Raises ConfigError for a rank outside 1 … min(in, out), an alpha that is not positive, or a dropout outside [0, 1).
    """

    def __init__(self, base: nn.Linear, *, rank: int, alpha: float, dropout: float = 0.0) -> None:
        super().__init__()
        largest = min(base.in_features, base.out_features)
        if not 1 <= rank <= largest:
            raise ConfigError(f"rank={rank} does not lie in 1 … {largest}, which this layer's size allows.")
        if not (alpha > 0 and math.isfinite(alpha)):
            raise ConfigError(f"alpha={alpha} must be positive.", hint="A usual choice is twice the rank.")
        if not 0.0 <= dropout < 1.0:
            raise ConfigError(f"dropout={dropout} is not a probability below 1.", hint="Use a value such as 0.05.")
        self.base = base.requires_grad_(False)
        self.rank, self.scale = rank, alpha / rank
        place = {"device": base.weight.device, "dtype": base.weight.dtype}
        self.down = nn.Parameter(torch.empty(rank, base.in_features, **place))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank, **place))
        self.dropout = nn.Dropout(dropout)
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(
        self, inputs: Float[Tensor, "*batch {self.base.in_features}"]
    ) -> Float[Tensor, "*batch {self.base.out_features}"]:
        update = nn.functional.linear(nn.functional.linear(self.dropout(inputs), self.down), self.up)
        return self.base(inputs) + self.scale * update

    @torch.no_grad()
    def merge(self) -> nn.Linear:
        """A plain linear layer with weight W + (α / r) B A. The base is left alone: its weight may be tied."""
        base = self.base
        # Made without storage first, so that folding draws no random numbers for weights about to be overwritten.
        shape = type(base)(base.in_features, base.out_features, bias=base.bias is not None, device="meta")
        merged = shape.to(base.weight.dtype).to_empty(device=base.weight.device)
        merged.weight.copy_(base.weight + self.scale * (self.up @ self.down))
        if base.bias is not None:
            merged.bias.copy_(base.bias)
        return merged.train(self.training)


def add_lora(
    module: nn.Module, *, rank: int, alpha: float, targets: Targets, dropout: float = 0.0, freeze: bool = True
) -> list[str]:
    """Wraps the linear layers inside ``module`` that ``targets`` names; returns their dotted names, sorted.

    targets: a regular expression searched in the dotted name (``r"attention\\.(query|value)$"``), or a function of
        name and layer.
    freeze: also freeze every other parameter of ``module``, so that only the updates learn.
    Only ``PLAIN`` layers are wrapped: other subclasses of ``nn.Linear`` are often read by their owner without being
    called, and the update would be lost in silence. Raises ConfigError when nothing matches.
    """
    if isinstance(targets, str | re.Pattern):
        pattern = _compile(targets)
        chosen = lambda name, _: pattern.search(name) is not None  # noqa: E731
    else:
        chosen = targets
    linears = {name: layer for name, layer in _plain_linears(module).items() if chosen(name, layer)}
    if not linears:
        names = sorted(_plain_linears(module))
        wanted = targets if isinstance(targets, str) else getattr(targets, "pattern", "the given function")
        raise ConfigError(f"targets={wanted!r} matches no linear layer.", hint=did_you_mean(str(wanted), names))
    if freeze:
        module.requires_grad_(False)
    # By identity: a layer used in two places stays one layer.
    distinct = {id(layer): layer for layer in linears.values()}
    adapters = {key: LoRALinear(layer, rank=rank, alpha=alpha, dropout=dropout) for key, layer in distinct.items()}
    for name, layer in linears.items():
        _replace(module, name, adapters[id(layer)].train(layer.training))
    return sorted(linears)


def merge_lora(module: nn.Module) -> list[str]:
    """Folds every ``LoRALinear`` inside ``module`` back into a plain linear layer; returns their dotted names, sorted.

    Outputs stay equal to rounding. The folded weights are trainable, as in any new layer.
    """
    if isinstance(module, LoRALinear):
        raise ConfigError(
            "merge_lora replaces layers inside a module, not the module itself.", hint="Call module.merge()."
        )
    found = {name: m for name, m in module.named_modules(remove_duplicate=False) if isinstance(m, LoRALinear)}
    merged = {id(layer): layer.merge() for layer in found.values()}
    for name, layer in found.items():
        _replace(module, name, merged[id(layer)])
    return sorted(found)


def _plain_linears(module: nn.Module) -> dict[str, nn.Linear]:
    if type(module) in PLAIN:
        raise ConfigError(
            "add_lora wraps layers inside a module, not the module itself.", hint="Use LoRALinear(layer, …)."
        )
    adapters = [name for name, m in module.named_modules(remove_duplicate=False) if isinstance(m, LoRALinear)]
    return {
        name: layer
        for name, layer in module.named_modules(remove_duplicate=False)
        if isinstance(layer, nn.Linear) and type(layer) in PLAIN and name.rpartition(".")[0] not in adapters
    }


def _compile(targets: str | re.Pattern[str]) -> re.Pattern[str]:
    try:
        return re.compile(targets)
    except re.error as fault:
        raise ConfigError(f"targets={targets!r} is not a regular expression: {fault}.") from fault


def _replace(module: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, new)
