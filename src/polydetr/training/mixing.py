"""Mixing examples: a step on a blend of two rows, with the blend of their losses.

Source: mixup, Zhang et al. 2018, arXiv 1710.09412; CutMix, Yun et al. 2019, arXiv 1905.04899. The blend of losses,
λ·L(y) + (1 - λ)·L(y'), is that of cross-entropy with blended labels, and serves every task alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from polydetr.embedders.base import BlendsExamples
from polydetr.nn.batch import Batch


@dataclass(frozen=True)
class MixedBatch:
    """A blended batch; ``other`` holds the targets blended in, and ``share`` (B,) what is each example's own."""

    batch: Batch
    other: Batch
    share: Tensor

    def loss(self, of: Callable[[Batch], Tensor]) -> Tensor:
        """Both losses, each over its part of the weights; ``of`` gives the loss of a batch with its own targets."""
        weights = self.batch.weights
        own, others = weights * self.share, weights * (1 - self.share)
        part = own.sum() / weights.sum().clamp(min=1e-6)
        return part * of(replace(self.batch, weights=own)) + (1 - part) * of(replace(self.other, weights=others))


def mix_examples(batch: Batch, embedders: Mapping[str, nn.Module], generator: torch.Generator) -> MixedBatch | None:
    """The batch blended by its only modality; None where there are several, or none wants it."""
    if len(batch.groups) != 1 or len(batch.example_ids) < 2:
        return None
    ((name, group),) = batch.groups.items()
    embedder = embedders.get(name)
    found = embedder.blend(group, generator) if isinstance(embedder, BlendsExamples) else None
    if found is None:
        return None
    blended, order, share = found
    mixed = replace(batch, groups={name: blended})
    targets = {t: {k: v[order] for k, v in tensors.items()} for t, tensors in batch.targets.items()}
    return MixedBatch(mixed, replace(mixed, targets=targets), share.to(batch.weights))
