"""The geometry of boxes for the shared matcher and criterion (``set_loss.Geometry``): L1 distance, generalized IoU.

Source: Carion et al. 2020, DETR (arXiv 2005.12872), section 3.1, "Bounding box loss"; weights 5 and 2 of its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from polydetr.nn.boxes import box_giou, box_iou, cxcywh_to_xyxy, pairwise_giou

if TYPE_CHECKING:
    from jaxtyping import Float


class BoxGeometry:
    """Reads ``outputs["boxes_cxcywh"]`` (N, B, Q, 4) and ``targets.geometry["boxes_cxcywh"]`` (B, T, 4), both relative
    to the image (0 … 1). The weights are those of the loss and of the matching cost.
    """

    def __init__(self, *, l1_weight: float = 5.0, giou_weight: float = 2.0) -> None:
        self.weights = {"l1": l1_weight, "giou": giou_weight}

    def cost(self, outputs: Mapping[str, Tensor], geometry: Mapping[str, Tensor]) -> Float[Tensor, "N B Q T"]:
        """l1_weight · |a - b|₁ - giou_weight · GIoU(a, b), of every query with every target of its own example."""
        boxes, target = outputs["boxes_cxcywh"].float(), geometry["boxes_cxcywh"].float()
        distance = torch.cdist(boxes, target.expand(len(boxes), *target.shape), p=1)
        agreement = pairwise_giou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(target))
        return distance.mul_(self.weights["l1"]).sub_(agreement, alpha=self.weights["giou"])

    def losses(self, predicted: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Float[Tensor, " P"]]:
        """The terms of P matched pairs; (P, 4) each side."""
        a, b = predicted["boxes_cxcywh"].float(), target["boxes_cxcywh"].float()
        return {"l1": (a - b).abs().sum(-1), "giou": 1 - box_giou(cxcywh_to_xyxy(a), cxcywh_to_xyxy(b))}

    def quality(self, predicted: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> Float[Tensor, " P"]:
        """IoU of P matched pairs: how good a box is, for scores that are to express it."""
        a, b = predicted["boxes_cxcywh"].float(), target["boxes_cxcywh"].float()
        return box_iou(cxcywh_to_xyxy(a), cxcywh_to_xyxy(b))
