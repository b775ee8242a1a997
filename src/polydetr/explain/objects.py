"""An object found in a picture, explained: how sure the model is that there is such an object at such a place, and
where the query that found it looked.

Shapes: N layers, Q queries, C classes, H heads, V levels, P points.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from polydetr.explain.answers import Answer, Reading
from polydetr.model.model import PolyModel
from polydetr.nn.attention import MultiHeadAttention
from polydetr.nn.batch import Batch
from polydetr.nn.boxes import box_iou, cxcywh_to_xyxy
from polydetr.nn.decoder import DecoderLayer
from polydetr.nn.deformable import DeformableAttention
from polydetr.nn.pyramid import PyramidEncoder

FINEST = 24
"""Cells a side of the map of where a query looked, at most."""


@dataclass(frozen=True)
class ObjectAnswer(Answer):
    """max over queries of score · IoU: which query finds an object is no part of the answer, and another may find it in
    another picture. Source: Petsiuk et al. 2021, D-RISE (arXiv 2006.03204), equation 4, for one box of one class.

    box: left, top, right, bottom as shares of what the model sees.
    """

    quantity: ClassVar[str] = "score × overlap"
    measure: ClassVar[str] = "score"
    remark: ClassVar[str] = (
        "An object's score is that of the best box of its label, times that box's overlap (IoU) with the one explained;"
        " a part scores what is lost of that without it. Such losses need not add up."
    )
    shown: str
    label: int
    box: tuple[float, float, float, float]
    softmax: bool
    floor: float = 0.0

    def probability(self, reading: Reading) -> float:
        return float(self._of_queries(reading).max())

    def query(self, reading: Reading) -> int:
        """The one that found it."""
        return int(self._of_queries(reading).argmax())

    def _of_queries(self, reading: Reading) -> Tensor:
        """(Q,), of the last layer."""
        logits, boxes = (torch.from_numpy(reading.outputs[0][name]).double() for name in ("logits", "boxes_cxcywh"))
        if not reading.outputs[0]["frame"][0]:  # the picture is missing
            return torch.zeros(logits.shape[-2])
        scores = logits[-1].softmax(-1) if self.softmax else logits[-1].sigmoid()
        return scores[:, self.label] * box_iou(cxcywh_to_xyxy(boxes[-1]), boxes.new_tensor(self.box))


def looked_at(model: PolyModel, batch: Batch, *, target: str, query: int) -> NDArray[np.float64]:
    """(cells, cells) over the first picture of the only row: how the attention of a query's last layer is shared out,
    on average over the heads. Sums to 1, less what a deformable query reads outside of the picture.
    """
    head, here = model.head_of(target), threading.get_ident()
    layers = [module for module in head.modules() if isinstance(module, DecoderLayer)]
    shapes: list[tuple[int, int]] = [(int(head.grid), int(head.grid))]  # type: ignore[arg-type]
    seen: list[NDArray[np.float64]] = []

    def levels(module: nn.Module, inputs: object, output: Sequence[Tensor]) -> None:
        if threading.get_ident() == here:
            shapes[:] = [(int(level.shape[-2]), int(level.shape[-1])) for level in output]

    def look(attention: nn.Module, inputs: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        if threading.get_ident() != here:
            return
        if isinstance(attention, DeformableAttention):
            asked, references, _, shown = inputs
            seen.append(_of_points(*(x[0, query] for x in attention.points(asked, references, shown))))
        elif isinstance(attention, MultiHeadAttention):
            _, weights = attention.forward(*inputs, need_weights=True)
            assert weights is not None
            seen.append(_of_cells(weights[0, :, query].mean(0), shapes))

    pyramids = [module for module in head.modules() if isinstance(module, PyramidEncoder)]
    handles = [pyramid.register_forward_hook(levels) for pyramid in pyramids]
    handles.append(layers[-1].cross_attention.register_forward_pre_hook(look, with_kwargs=True))
    try:
        with torch.no_grad():
            model(batch, [target])
    finally:
        for handle in handles:
            handle.remove()
    return seen[0]


def _of_points(locations: Tensor, weights: Tensor) -> NDArray[np.float64]:
    """(H, V, P, 2) in 0 … 1 and (H, V, P) → a map; what lies outside is left out."""
    x, y = (locations.flatten(0, -2).double().cpu().numpy() * FINEST).T
    weight = weights.flatten().double().cpu().numpy() / len(weights)
    found, _, _ = np.histogram2d(y, x, bins=FINEST, range=((0, FINEST), (0, FINEST)), weights=weight)
    return found


def _of_cells(weights: Tensor, shapes: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """(S,) over the cells of all levels → a map as fine as the finest of them."""
    side = min(FINEST, max(height for height, _ in shapes))
    total = np.zeros((side, side))
    for level, (height, width) in zip(weights.split([h * w for h, w in shapes]), shapes, strict=True):
        spread = F.interpolate(level.view(1, 1, height, width).double(), size=(side, side), mode="area")[0, 0]
        total += (spread * (height * width)).cpu().numpy()
    return total / total.sum()
