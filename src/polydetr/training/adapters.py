"""Low-rank adapters in the backbone while it trains; what is kept holds plain weights.

Source: Hu et al. 2021, "LoRA" (arXiv 2106.09685). All linear layers of the backbone's blocks are adapted, as Dettmers
et al. 2023 (arXiv 2305.14314, section 4) found to be needed to match full fine-tuning.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from polydetr.errors import ConfigError
from polydetr.nn.lora import PLAIN, LoRALinear


def add_adapters(model: nn.Module, *, rank: int, alpha: float) -> list[str]:
    """Wraps every linear layer of the backbones inside ``model`` and freezes the rest of them; the wrapped names.

    Raises ConfigError where there is no pretrained layer to adapt, or the rank is too large for one.
    """
    backbones = {name: m for name, m in model.named_modules() if name.rpartition(".")[2] == "backbone"}
    wrapped = []
    for prefix, backbone in backbones.items():
        # Exact types: a subclass may be read by its owner without being called, and the adapter would be lost.
        linears = [(name, layer) for name, layer in backbone.named_modules() if type(layer) in PLAIN]
        backbone.requires_grad_(False)
        for name, layer in linears:
            assert isinstance(layer, nn.Linear)
            _replace(backbone, name, LoRALinear(layer, rank=rank, alpha=alpha))
            wrapped.append(f"{prefix}.{name}")
    if not wrapped:
        raise ConfigError(
            f"training.lora.rank = {rank}: there is no backbone layer to adapt.",
            hint="Name a pretrained backbone, or set training.lora.rank: 0.",
        )
    return wrapped


def remove_adapters(model: nn.Module) -> None:
    """Puts the wrapped layers back as they were; ``plain_weights`` of the trained model then belong in them."""
    for name, adapter in _adapters(model).items():
        adapter.base.requires_grad_(True)
        _replace(model, name, adapter.base)


@torch.no_grad()
def plain_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``weights`` of the adapted ``model`` under the names of the plain one: W + (α / r) B A, computed in fp32."""
    plain = dict(weights)
    for name, adapter in _adapters(model).items():
        up, down = plain.pop(f"{name}.up").float(), plain.pop(f"{name}.down").float()
        plain[f"{name}.weight"] = plain.pop(f"{name}.base.weight").float() + adapter.scale * (up @ down)
        if adapter.base.bias is not None:
            plain[f"{name}.bias"] = plain.pop(f"{name}.base.bias")
    return plain


def _adapters(model: nn.Module) -> dict[str, LoRALinear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, LoRALinear)}


def _replace(module: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, new)
