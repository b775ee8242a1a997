"""Contrastive denoising: true objects, spoilt a little, are shown to the decoder, which is to put them right; spoilt
much, it is to say that they are none.

Source: DN-DETR, Li et al. 2022 (arXiv 2203.01305); DINO, Zhang et al. 2022 (arXiv 2203.03605), section 3.3. Matching is
known beforehand, so the decoder learns to refine boxes from the first step on, long before its own queries are matched
to anything twice in a row.

Shapes: B pictures, T targets (padded), G groups, R = 2 · G · T denoising queries: group by group, first the T that are
spoilt a little, then the T that are spoilt much.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from polydetr.nn.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from polydetr.nn.matcher import Matches, SetTargets

LABEL_NOISE = 0.5
"""Share of the queries whose label is doubted; half of those, as DINO has it, then really get one drawn at random."""
BOX_NOISE = 1.0
"""Corners move by up to half a side times this; for the contrasting queries by up to twice that."""


@dataclass(frozen=True)
class DenoisingPlan:
    """What is shown of a batch's targets, and how often; the head and the criterion each make the same one."""

    targets: SetTargets
    groups: int

    @staticmethod
    def of(targets: SetTargets, count: int) -> DenoisingPlan | None:
        """About ``count`` objects a picture, those of it repeated as often as they fit; None where there is nothing to
        show. Of a picture with more than ``count`` objects the first ones are shown.
        """
        most = int(targets.mask.sum(1).max()) if targets.mask.numel() else 0
        if not most or count < 1:
            return None
        shown = min(most, count)
        boxes = targets.geometry["boxes_cxcywh"][:, :shown]
        kept = SetTargets(targets.labels[:, :shown], targets.mask[:, :shown], {"boxes_cxcywh": boxes})
        return DenoisingPlan(kept, max(1, count // most))

    def of_examples(self, which: Tensor) -> DenoisingPlan:
        """The same plan for some of the pictures; which (B,) bool."""
        targets = self.targets
        geometry = {name: tensor[which] for name, tensor in targets.geometry.items()}
        return DenoisingPlan(SetTargets(targets.labels[which], targets.mask[which], geometry), self.groups)

    def queries(self, num_classes: int) -> tuple[Tensor, Tensor]:
        """labels (B, R) int64 and boxes_cxcywh (B, R, 4) float32, spoilt; drawn from the global generator."""
        labels = self.targets.labels.clamp(min=0).repeat(1, 2 * self.groups)
        doubted = torch.rand(labels.shape, device=labels.device) < LABEL_NOISE * 0.5
        drawn = torch.randint(0, num_classes, labels.shape, device=labels.device)
        shown = self.targets.labels.shape[1]
        much = torch.arange(2 * self.groups, device=labels.device).remainder(2).repeat_interleave(shown)
        boxes = self.targets.geometry["boxes_cxcywh"].float().repeat(1, 2 * self.groups, 1)
        return torch.where(doubted, drawn, labels), _spoilt(boxes, much[None, :, None])

    def allowed(self, num_queries: int) -> Tensor:
        """(R + Q, R + Q) bool, the Q matched queries last: who may look (row) at whom (column). A group sees itself and
        the matched queries; these never see a group, which would tell them the answer.
        """
        device, size = self.targets.labels.device, 2 * self.targets.labels.shape[1]
        own = torch.arange(self.groups, device=device).repeat_interleave(size)
        owner = torch.cat((own, torch.full((num_queries,), -1, device=device)))
        return (owner[:, None] == owner[None]) | (owner[None] == -1)

    def matches(self, num_layers: int) -> Matches:
        """Which query is to give which target, the same in every layer: those that were spoilt a little."""
        shown = self.targets.labels.shape[1]
        example, target = self.targets.mask.nonzero(as_tuple=True)
        group = torch.arange(self.groups, device=example.device)
        query = (group[None] * 2 * shown + target[:, None]).flatten()
        example, target = (x.repeat_interleave(self.groups) for x in (example, target))
        layer = torch.arange(num_layers, device=example.device).repeat_interleave(len(query))
        return Matches(layer, example.repeat(num_layers), query.repeat(num_layers), target.repeat(num_layers))


def _spoilt(boxes_cxcywh: Tensor, much: Tensor) -> Tensor:
    """Each corner moved by a share of half the side: in [0, 1) of it, or in [1, 2) where ``much`` is 1."""
    half = boxes_cxcywh[..., 2:].repeat(1, 1, 2) / 2
    share = (torch.rand_like(boxes_cxcywh) + much) * BOX_NOISE
    sign = torch.randint_like(boxes_cxcywh, 0, 2) * 2 - 1
    low, high = (cxcywh_to_xyxy(boxes_cxcywh) + sign * share * half).clamp(0, 1).split(2, dim=-1)
    return xyxy_to_cxcywh(torch.cat((torch.minimum(low, high), torch.maximum(low, high)), dim=-1))
