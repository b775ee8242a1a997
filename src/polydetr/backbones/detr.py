"""The weights of a published DETR: those of its ResNet apart from those of the transformer that reads it.

Source: Carion et al. 2020, arXiv 2005.12872. What it looks like is described in ``specs.detr``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from polydetr.specs.detr import BACKBONE, our_keys

_PROJECTION = "input_projection."


class PretrainedDetr(NamedTuple):
    """A transformer's weights, by the names of ``nn.detr.Detr``, and the labels of its class head, in their order."""

    weights: Mapping[str, Tensor]
    labels: Sequence[str]


def detr_weights(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tensors in any of the three spellings → the ResNet's by torchvision's names, the projection among them; all
    others by the names of ``nn.detr.Detr``.
    """
    backbone: dict[str, Tensor] = {}
    head: dict[str, Tensor] = {}
    for name, value in our_keys(state).items():
        if name.startswith((BACKBONE, _PROJECTION)):
            backbone[name.removeprefix(BACKBONE)] = value
        elif joint := re.fullmatch(r"(.*attention)\.in_proj_(weight|bias)", name):
            # Queries, keys and values in one matrix, one above the other.
            for part, tensor in zip(("query", "key", "value"), value.chunk(3), strict=True):
                head[f"{joint[1]}.{part}.{joint[2]}"] = tensor
        else:
            head[name] = value
    return backbone, head
