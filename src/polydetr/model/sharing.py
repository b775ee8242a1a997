"""Weights that several models in one process have in common, in memory once: models trained on one frozen backbone.

What is equal is known by its content, not by a name: a tensor of a quarter of a megabyte or more whose bytes, shape and
type are those of one that is there already becomes that one, and so does its second layout (``nn.cpu.linear.Packed``).
"""

from __future__ import annotations

import hashlib
import weakref
from typing import Any

import torch
from torch import Tensor, nn

from polydetr.nn.cpu.linear import Packed

LEAST_BYTES = 1 << 18
Known = dict[Any, list[weakref.ref[Any]]]
"""Key → who has a tensor, or a module with a second layout, of this content."""


def share(model: nn.Module, known: Known) -> None:
    """Uses what is ``known`` in place of the model's own, and adds the rest; those who are no more are forgotten."""
    for key in list(known):
        known[key] = [one for one in known[key] if one() is not None]
        if not known[key]:
            del known[key]
    for module in model.modules():
        keys = []
        for name, parameter in module.named_parameters(recurse=False):
            if (key := _key(parameter)) is None:
                continue
            keys.append((name, key))
            other = _first(known, key)
            if other is not None:
                parameter.data = other.data
            known.setdefault(key, []).append(weakref.ref(parameter))
        if isinstance(module, Packed) and module._packed is not None and keys:
            _share_layout(module, (type(module).__name__, getattr(module, "int8", False), *keys), known)


def _share_layout(module: Packed, key: Any, known: Known) -> None:
    other = _first(known, key)
    # The last entry says of which version of the weights it is, by which a module knows that it is still right.
    if other is not None and other._packed is not None and other._packed[-1] == module._packed[-1]:
        module._packed = other._packed
    known.setdefault(key, []).append(weakref.ref(module))


def _first(known: Known, key: Any) -> Any:
    return next((found for one in known.get(key, ()) if (found := one()) is not None), None)


def _key(tensor: Tensor) -> Any:
    """What tells its content; None for small tensors and for those that lie elsewhere than in this process's memory."""
    in_memory = tensor.device.type == "cpu" and tensor.layout == torch.strided
    if not in_memory or tensor.numel() * tensor.element_size() < LEAST_BYTES:
        return None
    content = tensor.detach().contiguous().view(torch.uint8).numpy().data.cast("B")
    return tuple(tensor.shape), str(tensor.dtype), hashlib.blake2b(content, digest_size=16).digest()
