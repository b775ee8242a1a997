"""BERT checkpoints as Hugging Face names them, out of our own encoders."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from polydetr.backbones import bert


def hf_state_dict(state: Mapping[str, Tensor], *, num_layers: int) -> dict[str, Tensor]:
    """The inverse of ``from_hf_state_dict``: plain layout, no prefix."""
    result: dict[str, Tensor] = {}
    for ours, group in bert._names(num_layers).items():
        for theirs, part in zip(group, state[ours].chunk(len(group)), strict=True):
            result[theirs] = part.contiguous()
    return result
