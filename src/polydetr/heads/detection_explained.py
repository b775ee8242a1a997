"""The attention of the query that found an object in an image.

Shapes: H heads, V levels, P points.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from polydetr.nn.attention import MultiHeadAttention
from polydetr.nn.decoder import DecoderLayer
from polydetr.nn.deformable import DeformableAttention
from polydetr.nn.detr_fast import DetrFast
from polydetr.nn.pyramid import PyramidEncoder

if TYPE_CHECKING:
    from polydetr.heads.detection import DetectionHead

FINEST = 24
"""Cells per side of the map of a query's attention, at most."""


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
