"""Boxes against the definition, counted pair by pair in Python floats; and boxes that no one should draw."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polydetr.nn.boxes import (
    box_giou,
    box_iou,
    cxcywh_to_xyxy,
    pairwise_giou,
    xyxy_to_cxcywh,
)

# A different prime for every dimension: a swapped axis cannot fit by accident.
B, N, M = 2, 5, 7


def random_xyxy(*shape: int, seed: int = 0) -> Tensor:
    centre_size = torch.rand(*shape, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return cxcywh_to_xyxy(centre_size * torch.tensor([1.0, 1.0, 0.6, 0.4]) + 0.05)


def literal(a: list[float], b: list[float]) -> tuple[float, float]:
    """(IoU, GIoU) of two boxes, algorithm 1 of arXiv 1902.09630 line by line."""
    area_a = (a[2] - a[0]) * (a[3] - a[1])
    area_b = (b[2] - b[0]) * (b[3] - b[1])
    left, top, right, bottom = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    overlap = (right - left) * (bottom - top) if right > left and bottom > top else 0.0
    union = area_a + area_b - overlap
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return overlap / union, overlap / union - (hull - union) / hull


def test_conversion_by_hand_and_back() -> None:
    boxes_cxcywh = torch.tensor([[10.0, 20.0, 4.0, 6.0]])
    assert cxcywh_to_xyxy(boxes_cxcywh).tolist() == [[8.0, 17.0, 12.0, 23.0]]
    boxes = random_xyxy(B, N)
    torch.testing.assert_close(cxcywh_to_xyxy(xyxy_to_cxcywh(boxes)), boxes)


def test_pairs_equal_the_literal_definition() -> None:
    a, b = random_xyxy(B, N, seed=1), random_xyxy(B, M, seed=2)
    iou, giou = box_iou(a[:, :, None], b[:, None]), pairwise_giou(a, b)
    assert iou.shape == giou.shape == (B, N, M)
    for image in range(B):
        for i in range(N):
            for j in range(M):
                expected = literal(a[image, i].tolist(), b[image, j].tolist())
                assert (float(iou[image, i, j]), float(giou[image, i, j])) == pytest.approx(expected, abs=1e-12)
    assert (iou > 0).any()
    assert (giou < 0).any()


def test_elementwise_is_the_diagonal_of_the_pairs() -> None:
    a, b = random_xyxy(N, seed=3), random_xyxy(N, seed=4)
    torch.testing.assert_close(box_iou(a, b), box_iou(a[:, None], b).diagonal())
    torch.testing.assert_close(box_giou(a, b), pairwise_giou(a, b).diagonal())


def test_gradients_agree_with_finite_differences() -> None:
    a, b = random_xyxy(N, seed=5).requires_grad_(), random_xyxy(N, seed=6)
    assert torch.autograd.gradcheck(lambda x: box_giou(x, b), (a,))


def test_half_precision_is_compared_in_single() -> None:
    a = random_xyxy(N, seed=7).to(torch.bfloat16)
    assert box_giou(a, a).dtype == torch.float32
    torch.testing.assert_close(box_giou(a, a), torch.ones(N))


DEGENERATE = {
    "two equal points": ([0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]),
    "two points": ([0.2, 0.3, 0.2, 0.3], [0.7, 0.5, 0.7, 0.5]),
    "points on one line": ([0.2, 0.5, 0.2, 0.5], [0.7, 0.5, 0.7, 0.5]),
    "a line in a box": ([0.2, 0.5, 0.6, 0.5], [0.1, 0.1, 0.9, 0.9]),
    "swapped corners": ([0.6, 0.5, 0.2, 0.1], [0.1, 0.1, 0.9, 0.9]),
    "far outside": ([-1e6, -1e6, -1e6 + 1, -1e6 + 1], [1e6, 1e6, 1e6 + 1, 1e6 + 1]),
}


@pytest.mark.parametrize("name", list(DEGENERATE))
def test_degenerate_boxes_give_finite_answers_and_gradients(name: str) -> None:
    a, b = (torch.tensor([box], requires_grad=True) for box in DEGENERATE[name])
    assert box_iou(a, b).item() == 0.0
    giou = box_giou(a, b)
    assert -1.0 <= giou.item() <= 0.0
    giou.sum().backward()
    assert a.grad is not None
    assert b.grad is not None
    assert torch.isfinite(a.grad).all()
    assert torch.isfinite(b.grad).all()


def test_swapped_corners_count_as_the_first_corner_alone() -> None:
    swapped, point = torch.tensor([0.6, 0.5, 0.2, 0.1]), torch.tensor([0.6, 0.5, 0.6, 0.5])
    other = random_xyxy(N, seed=8).float()
    torch.testing.assert_close(box_giou(swapped, other), box_giou(point, other))
    assert box_iou(swapped, swapped).item() == 0.0


def test_no_boxes_at_all() -> None:
    assert pairwise_giou(random_xyxy(N), torch.zeros(0, 4, dtype=torch.float64)).shape == (N, 0)
    assert box_iou(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0,)


coordinate = st.floats(min_value=-1e3, max_value=1e3, width=32)


@given(st.lists(st.lists(coordinate, min_size=4, max_size=4), min_size=2, max_size=6))
@settings(max_examples=60, deadline=None)
def test_any_finite_boxes_stay_in_range_and_giou_never_exceeds_iou(rows: list[list[float]]) -> None:
    boxes = torch.tensor(rows)
    iou, giou = box_iou(boxes[:, None], boxes), pairwise_giou(boxes, boxes)
    # Rounding of the areas, in single precision.
    assert (iou >= 0).all()
    assert (iou <= 1 + 1e-5).all()
    assert (giou >= -1 - 1e-5).all()
    assert (giou <= iou + 1e-5).all()
