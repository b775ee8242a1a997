"""An object that was found in an image, explained: how confident the model is that there is such an object at this
place, and the attention of the query that found it.

Shapes: N layers, Q queries, C classes, H heads, V levels, P points.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from polydetr.heads.explained import PlacedAnswer, Reading
from polydetr.nn.attention import MultiHeadAttention
from polydetr.nn.boxes import box_iou, cxcywh_to_xyxy
from polydetr.nn.decoder import DecoderLayer
from polydetr.nn.deformable import DeformableAttention
from polydetr.nn.detr_fast import DetrFast
from polydetr.nn.pyramid import PyramidEncoder

if TYPE_CHECKING:
    from polydetr.heads.detection import DetectionHead

FINEST = 24
"""Cells per side of the map of a query's attention, at most."""


@dataclass(frozen=True)
class ObjectAnswer(PlacedAnswer):
    """max over queries of score · IoU: which query finds the object does not matter, as it may be another one in a
    changed image. Source: Petsiuk et al. 2021, D-RISE (arXiv 2006.03204), equation 4, for one box of one class.

    label: the number of its class; softmax: whether scores are a softmax over classes, not one sigmoid per class.
    """

    quantity: ClassVar[str] = "score × overlap"
    measure: ClassVar[str] = "score"
    level_name: ClassVar[str] = "score × overlap"
    remark: ClassVar[str] = (
        "An object's score is that of the best box of its label, times that box's overlap (IoU) with the one explained;"
        " a part scores what is lost of that without it. Such losses need not add up."
    )
    label: int
    softmax: bool

    def probability(self, reading: Reading) -> float:
        return float(self._of_queries(reading).max())

    def query(self, reading: Reading) -> int:
        """The query of the highest score · IoU."""
        return int(self._of_queries(reading).argmax())

    def looked_at(self, head: Any, reading: Reading, forward: Callable[[], object]) -> NDArray[np.float64]:
        return looked_at(head, query=self.query(reading), forward=forward)

    def _of_queries(self, reading: Reading) -> Tensor:
        """score · IoU of every query of the last layer, (Q,)."""
        logits, boxes = (torch.from_numpy(reading.outputs[0][name]).double() for name in ("logits", "boxes_cxcywh"))
        if not reading.outputs[0]["frame"][0]:  # the image is missing
            return torch.zeros(logits.shape[-2])
        scores = logits[-1].softmax(-1) if self.softmax else logits[-1].sigmoid()
        return scores[:, self.label] * box_iou(cxcywh_to_xyxy(boxes[-1]), boxes.new_tensor(self.box))


def looked_at(head: DetectionHead, *, query: int, forward: Callable[[], object]) -> NDArray[np.float64]:
    """The attention of a query in the last layer, averaged over the attention heads, as a map (cells, cells) over the
    first image of the one row that ``forward`` reads. Sums to 1, less what a deformable query reads outside of the
    image.
    """
    here = threading.get_ident()
    # Shared layers (``nn.decoder.hold``) are not among the head's own modules.
    owner = head.model.layers if isinstance(head.model, DetrFast) else head.model
    layers = [module for module in owner.modules() if isinstance(module, DecoderLayer)]
    shapes = [(head.grid, head.grid)]
    maps: list[NDArray[np.float64]] = []

    def levels(module: nn.Module, inputs: object, output: Sequence[Tensor]) -> None:
        if threading.get_ident() == here:
            shapes[:] = [(int(level.shape[-2]), int(level.shape[-1])) for level in output]

    def look(attention: nn.Module, inputs: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        if threading.get_ident() != here:
            return
        if isinstance(attention, DeformableAttention):
            points = attention.points(*inputs[:2])
            maps.append(_of_points(*(x[0, query] for x in points)))
        elif isinstance(attention, MultiHeadAttention):
            _, weights = attention.forward(*inputs, need_weights=True)
            assert weights is not None
            maps.append(_of_cells(weights[0, :, query].mean(0), shapes))

    pyramids = [module for module in head.modules() if isinstance(module, PyramidEncoder)]
    handles = [pyramid.register_forward_hook(levels) for pyramid in pyramids]
    handles.append(layers[-1].cross_attention.register_forward_pre_hook(look, with_kwargs=True))
    try:
        with torch.no_grad():
            forward()
    finally:
        for handle in handles:
            handle.remove()
    return maps[0]


def _of_points(locations: Tensor, weights: Tensor) -> NDArray[np.float64]:
    """(H, V, P, 2) in 0 … 1 and (H, V, P) → a map; what lies outside is left out."""
    x, y = (locations.flatten(0, -2).double().cpu().numpy() * FINEST).T
    weight = weights.flatten().double().cpu().numpy() / len(weights)
    heat, _, _ = np.histogram2d(y, x, bins=FINEST, range=((0, FINEST), (0, FINEST)), weights=weight)
    return heat


def _of_cells(weights: Tensor, shapes: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """(S,) over the cells of all levels → a map as fine as the finest of them."""
    side = min(FINEST, max(height for height, _ in shapes))
    total = np.zeros((side, side))
    for level, (height, width) in zip(weights.split([h * w for h, w in shapes]), shapes, strict=True):
        spread = F.interpolate(level.view(1, 1, height, width).double(), size=(side, side), mode="area")[0, 0]
        total += (spread * (height * width)).cpu().numpy()
    return total / total.sum()
