"""Tokens → vectors: one file per modality, found by its name (``core.plugs.EMBEDDERS``)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from polydetr.core.plugs import EMBEDDERS
from polydetr.embedders.base import Embedder
from polydetr.modalities.base import Modality


def build(modality: Modality, *, embed_dim: int | None, others: Mapping[str, nn.Module]) -> Embedder:
    """The embedder of a modality, with random weights.

    Raises:
        ConfigError: no installed package has an embedder of this name.
    """
    return EMBEDDERS.find(modality.name).from_modality(modality, embed_dim=embed_dim, others=others)
