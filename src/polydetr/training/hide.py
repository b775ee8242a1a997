"""Modality dropout: a model that has always seen everything does not know what to do when something is missing.

Source: Neverova et al. 2015, ModDrop, arXiv 1501.00102.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch

from polydetr.nn.batch import Batch

TOKEN_GROUPS = ("text",)
"""What tasks that answer token by token read: it is never hidden from them."""


def hide_modalities(
    batch: Batch, probability: float, generator: torch.Generator, *, keep: Collection[str] = ()
) -> Batch:
    """The batch with each modality of each example masked with this probability, but never an example's last one.

    keep: groups that are always left.
    """
    names = [name for name in batch.groups if name not in keep]
    if probability <= 0 or len(batch.groups) < 2 or not names:
        return batch
    present = torch.stack([batch.groups[name].mask.any(1) for name in names], dim=1)
    hidden = torch.rand(present.shape, generator=generator) < probability
    # Where all would go, the one that chance likes best stays: otherwise rows of few modalities would never be hidden.
    draw = torch.rand(present.shape, generator=generator).masked_fill(~present, -1.0)
    others = torch.stack([g.mask.any(1) for n, g in batch.groups.items() if n in keep] or [present[:, 0] & False], 1)
    empty = ~((present & ~hidden).any(1) | others.any(1))
    hidden[empty, draw[empty].argmax(1)] = False
    groups = dict(batch.groups)
    for column, name in enumerate(names):
        groups[name] = replace(groups[name], mask=groups[name].mask & ~hidden[:, column, None])
    return replace(batch, groups=groups)
