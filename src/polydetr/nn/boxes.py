"""Boxes in two forms, with names that differ, and the overlap of two of them.

    boxes_cxcywh   center, width, height        boxes_xyxy   left, top, right, bottom (y grows downwards)

    IoU(a, b)  = |a ∩ b| / |a ∪ b|
    GIoU(a, b) = IoU - (|hull| - |a ∪ b|) / |hull|      the hull is the smallest box around both

Source: Rezatofighi et al. 2019, "Generalized Intersection over Union" (arXiv 1902.09630), algorithm 1.

A box without area is no error: IoU with it is 0, GIoU is finite and at most 0. Where the corners are swapped
(right < left) the side counts as 0. So finite boxes of any shape give finite values with finite
gradients. Values are float32 at least: half precision cannot resolve small areas.

Shapes: any leading dimensions; the pairwise functions compare all N of the one with all M of the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float

_SMALLEST_AREA = 1e-12
"""Areas are divided by no less: a box of a millionth of the image's side on each side."""


def cxcywh_to_xyxy(boxes_cxcywh: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    """(cx, cy, w, h) → (x1, y1, x2, y2)."""
    center, size = boxes_cxcywh.split(2, dim=-1)
    return torch.cat((center - size / 2, center + size / 2), dim=-1)


def xyxy_to_cxcywh(boxes_xyxy: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    """(x1, y1, x2, y2) → (cx, cy, w, h)."""
    low, high = boxes_xyxy.split(2, dim=-1)
    return torch.cat(((low + high) / 2, high - low), dim=-1)


def box_iou(a_xyxy: Float[Tensor, "*#batch 4"], b_xyxy: Float[Tensor, "*#batch 4"]) -> Float[Tensor, "*_"]:
    """IoU of each box with its counterpart; leading dimensions are broadcast. In [0, 1]."""
    overlap, union, _ = _areas(a_xyxy, b_xyxy, hull=False)
    return overlap / union


def box_giou(a_xyxy: Float[Tensor, "*#batch 4"], b_xyxy: Float[Tensor, "*#batch 4"]) -> Float[Tensor, "*_"]:
    """Generalized IoU of each box with its counterpart; leading dimensions are broadcast. In [-1, 1]."""
    overlap, union, hull = _areas(a_xyxy, b_xyxy, hull=True)
    # 1 - (hull - union)/hull is union/hull: one division fewer, and no difference of nearly equal areas.
    return overlap / union + union / hull - 1


def pairwise_giou(
    a_xyxy: Float[Tensor, "*#batch N 4"], b_xyxy: Float[Tensor, "*#batch M 4"]
) -> Float[Tensor, "*_ N M"]:
    """Generalized IoU of every a with every b: (..., N, M)."""
    return box_giou(a_xyxy[..., :, None, :], b_xyxy[..., None, :, :])


def _areas(a_xyxy: Tensor, b_xyxy: Tensor, *, hull: bool) -> tuple[Tensor, Tensor, Tensor]:
    """(overlap, union, hull) of each pair, the last two never below the smallest area.

    Coordinates are split before the pairs are formed, so that the large tensors are contiguous.
    """
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = _sides(a_xyxy), _sides(b_xyxy)
    # Negative where the boxes are apart; the hull's side is then exactly the two sides and the gap between them.
    across = torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)
    down = torch.minimum(ay2, by2) - torch.maximum(ay1, by1)
    overlap = across.clamp(min=0) * down.clamp(min=0)
    union = ((ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - overlap).clamp(min=_SMALLEST_AREA)
    if not hull:
        return overlap, union, union
    around = ((ax2 - ax1) + (bx2 - bx1) - across) * ((ay2 - ay1) + (by2 - by1) - down)
    return overlap, union, around.clamp(min=_SMALLEST_AREA)


def _sides(boxes_xyxy: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x1, y1, x2, y2 with x1 ≤ x2 and y1 ≤ y2, in float32 or better."""
    x1, y1, x2, y2 = (boxes_xyxy if boxes_xyxy.dtype == torch.float64 else boxes_xyxy.float()).unbind(-1)
    return x1, y1, torch.maximum(x2, x1), torch.maximum(y2, y1)
