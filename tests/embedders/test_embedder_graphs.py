"""Graphs with dynamic sizes: what ``torch.export`` records of an embedder answers for other batches as the embedder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from embedder_cases import CASES, EmbedderCase, group_of
from polydetr.nn.batch import TokenGroup
from polydetr.nn.cpu.linear import pack


class Flat(nn.Module):
    """An embedder with tensors in place of a ``TokenGroup``, as graphs take them."""

    def __init__(self, embedder: nn.Module, frame: bool) -> None:
        super().__init__()
        self.embedder, self.frame = embedder, frame

    def forward(self, values: dict[str, Tensor], mask: Tensor, positions: Tensor) -> tuple[Tensor, ...]:
        found = self.embedder(TokenGroup(values, mask, positions))
        maps = tuple(found.maps[stride] for stride in sorted(found.maps))
        return (found.tokens, found.mask, *maps, *((found.frame,) if self.frame else ()))


def exported(embedder: nn.Module, group: TokenGroup, *, no_grad: bool, fixed_length: bool) -> Any:
    batch = torch.export.Dim("batch", min=1, max=64)
    length = torch.export.Dim.STATIC if fixed_length else torch.export.Dim("length", min=2, max=60)
    dims = {0: batch, 1: length}
    shapes = {"values": dict.fromkeys(group.values, dims), "mask": dims, "positions": dims}
    with torch.set_grad_enabled(not no_grad):
        return torch.export.export(
            Flat(embedder, "frame" in group.values),
            (dict(group.values), group.mask, group.positions),
            dynamic_shapes=shapes,
        ).module()


IN_MODELS = ("text", "image", "table", "history")
"""Exported without gradients in whole models (tests/model/test_export_graphs.py)."""


@pytest.mark.parametrize(
    ("case", "no_grad"),
    [
        pytest.param(case, no_grad, id=f"{case.name}-{no_grad}")
        for case in CASES
        for no_grad in (True, False)
        if not (no_grad and case.name in IN_MODELS)
    ],
)
def test_a_graph_of_any_batch_answers_as_the_embedder(case: EmbedderCase, no_grad: bool) -> None:
    modality, embedder = case.make()
    embedder.eval()
    pack(embedder)
    graph = exported(embedder, group_of(modality, case.rows[:3]), no_grad=no_grad, fixed_length=case.fixed_length)
    for rows in (case.rows, case.rows[:1], [*case.rows[1:], case.nothing]):
        group = group_of(modality, rows)
        if case.fixed_length and group.mask.shape[1] != case.fixed_length:
            continue
        flat = Flat(embedder, "frame" in group.values)
        inputs = (dict(group.values), group.mask, group.positions)
        with torch.no_grad():
            expected, found = flat(*inputs), graph(*inputs)
        real = expected[1]
        assert torch.equal(found[1], real)
        np.testing.assert_allclose(found[0][real], expected[0][real], atol=1e-5)
        for mine, theirs in zip(found[2:], expected[2:], strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-5)
