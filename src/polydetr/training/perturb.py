"""What a training step does to a batch so that the model generalizes: it augments, hides modalities, and mixes
examples.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from polydetr.embedders.base import BlendsExamples
from polydetr.heads.base import TransformsTargets
from polydetr.nn.batch import Batch, TokenGroup

if TYPE_CHECKING:
    from polydetr.model.model import PolyModel

TOKEN_GROUPS = ("text",)
"""What tasks with an output per token read: it is never hidden from them."""


def augmented(batch: Batch, model: PolyModel, generator: torch.Generator, *, progress: float) -> Batch:
    """The batch as each modality's embedder augments it, the targets moved along with their images."""
    groups, targets = dict[str, TokenGroup](), dict(batch.targets)
    for name, group in batch.groups.items():
        groups[name], scene = model.embedder_of(name).augment(group, generator, progress=progress)
        if scene is not None:
            for target, tensors in targets.items():
                head = model.head_of(target)
                if isinstance(head, TransformsTargets):
                    targets[target] = head.transform_targets(tensors, scene)
    positives = {
        target: model.embedder_of(model.positive_side(target)).augment(group, generator, progress=progress)[0]
        for target, group in batch.positives.items()
    }
    return replace(batch, groups=groups, targets=targets, positives=positives)


def hide_modalities(
    batch: Batch, probability: float, generator: torch.Generator, *, keep: Collection[str] = ()
) -> Batch:
    """The batch with each modality of each example masked with this probability, but never an example's last one: a
    model that has always had everything does not know what to do when something is missing.

    Source: Neverova et al. 2015, ModDrop, arXiv 1501.00102. keep: groups that are never masked.
    """
    names = [name for name in batch.groups if name not in keep]
    if probability <= 0 or len(batch.groups) < 2 or not names:
        return batch
    present = torch.stack([batch.groups[name].mask.any(1) for name in names], dim=1)
    hidden = torch.rand(present.shape, generator=generator) < probability
    # Where all would go, a random one stays: to mask none there would spare rows of few modalities.
    draw = torch.rand(present.shape, generator=generator).masked_fill(~present, -1.0)
    others = torch.stack([g.mask.any(1) for n, g in batch.groups.items() if n in keep] or [present[:, 0] & False], 1)
    empty = ~((present & ~hidden).any(1) | others.any(1))
    hidden[empty, draw[empty].argmax(1)] = False
    groups = dict(batch.groups)
    for column, name in enumerate(names):
        groups[name] = replace(groups[name], mask=groups[name].mask & ~hidden[:, column, None])
    return replace(batch, groups=groups)


@dataclass(frozen=True)
class MixedBatch:
    """A step on a blend of two rows; ``other`` holds the targets blended in, and ``share`` λ (B,) is each example's own
    part. The blend of losses, λ·L(y) + (1 - λ)·L(y'), is that of cross-entropy with blended labels, and serves every
    task alike.
    """

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
    """The batch blended by its only modality; None where there are several, or it is not to be blended.

    Source: mixup, Zhang et al. 2018, arXiv 1710.09412; CutMix, Yun et al. 2019, arXiv 1905.04899.
    """
    if len(batch.groups) != 1 or len(batch.example_ids) < 2:
        return None
    ((name, group),) = batch.groups.items()
    embedder = embedders.get(name)
    blend = embedder.blend(group, generator) if isinstance(embedder, BlendsExamples) else None
    if blend is None:
        return None
    blended, order, share = blend
    mixed = replace(batch, groups={name: blended})
    targets = {t: {k: v[order] for k, v in tensors.items()} for t, tensors in batch.targets.items()}
    return MixedBatch(mixed, replace(mixed, targets=targets), share.to(batch.weights))
