"""Augmented images: bytes in, bytes out; boxes go where the content goes; nothing changes when nothing is asked."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polydetr.config.sections import AugmentConfig
from polydetr.embedders.image_augment import ImageAugment, Mix

seeds = st.integers(0, 2**31)


def move_boxes_xyxy(boxes_xyxy: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    """Boxes (N, K, 4) of the images before, as boxes of the augmented ones; cut at the edges, so that a box outside of
    the image becomes empty.
    """
    corners = boxes_xyxy.unflatten(-1, (2, 2))
    affine = affine.to(boxes_xyxy)
    moved = corners @ affine[:, None, :, :2].transpose(-1, -2) + affine[:, None, None, :, 2]
    low, high = moved.aminmax(dim=-2)
    return torch.cat((low, high), dim=-1).clamp(0, 1)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int, height: int = 9, width: int = 11, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, 3, height, width), generator=generator(seed), dtype=torch.uint8)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 5), st.integers(2, 17), st.integers(2, 17), st.floats(0, 1), st.floats(0.05, 1), st.floats(0, 0.9),
    seeds,
)  # fmt: skip
def test_shapes_kinds_and_range(n: int, h: int, w: int, flip: float, crop: float, color: float, seed: int) -> None:
    augment, pixels = ImageAugment(flip=flip, crop=crop, color=color), noise(n, h, w)
    before = pixels.clone()
    found = augment(pixels, generator(seed))
    assert found.pixels.shape == pixels.shape
    assert found.pixels.dtype == torch.uint8
    assert found.affine.shape == (n, 2, 3)
    assert torch.equal(pixels, before)
    again = augment(pixels, generator(seed))
    assert torch.equal(found.pixels, again.pixels)
    assert torch.equal(found.affine, again.affine)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_everything_off_is_the_identity(seed: int) -> None:
    pixels = noise(4)
    found = ImageAugment(flip=0, crop=1, color=0)(pixels, generator(seed))
    assert torch.equal(found.pixels, pixels)
    assert torch.equal(found.affine, torch.eye(2, 3).expand(4, 2, 3))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([(1, 0, (3,)), (0, 1, (2,)), (1, 1, (2, 3))]), seeds)
def test_mirrored_twice_is_the_identity(how: tuple[int, int, tuple[int, ...]], seed: int) -> None:
    pixels, augment = noise(4), ImageAugment(flip=how[0], flip_vertical=how[1], crop=1, color=0)
    once = augment(pixels, generator(seed))
    assert torch.equal(once.pixels, pixels.flip(how[2]))
    assert torch.equal(augment(once.pixels, generator(seed)).pixels, pixels)
    low, high = torch.rand(2, 4, 3, 2, generator=generator(seed)).sort(0).values
    boxes = torch.cat((low, high), dim=-1)
    back = move_boxes_xyxy(move_boxes_xyxy(boxes, once.affine), once.affine)
    torch.testing.assert_close(back, boxes)


def test_about_half_are_mirrored_and_images_differ() -> None:
    found = ImageAugment.from_config(AugmentConfig(crop=1, color=0))(noise(400), generator(0))
    mirrored = (found.affine[:, 0, 0] < 0).float().mean()
    assert 0.4 < mirrored < 0.6
    found = ImageAugment.from_config(AugmentConfig(flip_vertical=True, crop=1, color=0))(noise(400), generator(0))
    assert 0.4 < (found.affine[:, 1, 1] < 0).float().mean() < 0.6
    assert 0.15 < (found.affine[:, [0, 1], [0, 1]] < 0).all(1).float().mean() < 0.35
    varied = ImageAugment(flip=0, crop=0.5, color=0.2)(noise(1).expand(8, -1, -1, -1), generator(0)).pixels
    assert len({bytes(picture.numpy().tobytes()) for picture in varied}) == 8


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0.3, 1), st.integers(0, 1), st.integers(0, 1), st.integers(0, 40), st.integers(0, 30),
    st.integers(8, 24), st.integers(8, 24), seeds,
)  # fmt: skip
def test_boxes_follow_the_content(
    crop: float, flip: int, flip_vertical: int, left: int, top: int, w: int, h: int, seed: int
) -> None:
    height, width = 54, 64
    pixels = torch.zeros(1, 3, height, width, dtype=torch.uint8)
    pixels[..., top : top + h, left : left + w] = 255
    box = torch.tensor([[[left / width, top / height, (left + w) / width, (top + h) / height]]])
    found = ImageAugment(flip=flip, flip_vertical=flip_vertical, crop=crop, color=0)(pixels, generator(seed))
    moved = move_boxes_xyxy(box, found.affine)[0, 0]
    bright = found.pixels[0, 0] > 127
    ys, xs = bright.nonzero(as_tuple=True)
    if not len(xs):
        assert ((moved[2:] - moved[:2]) * torch.tensor([width, height])).min() < 2.1
        return
    seen = torch.tensor([xs.min() / width, ys.min() / height, (xs.max() + 1) / width, (ys.max() + 1) / height])
    assert (seen - moved).abs().max() <= 1.6 / height


@settings(max_examples=40, deadline=None)
@given(st.floats(0.1, 1), seeds)
def test_crops_lie_inside_and_keep_what_was_promised(crop: float, seed: int) -> None:
    affine = ImageAugment(flip=0, crop=crop, color=0)(noise(30), generator(seed)).affine
    side = 1 / torch.stack((affine[:, 0, 0], affine[:, 1, 1]), 1)
    corner = -affine[:, :, 2] * side
    assert (corner >= -1e-5).all()
    assert (corner + side <= 1 + 1e-5).all()
    assert (side.prod(1) >= crop - 1e-4).all()
    ratio = side[:, 0] / side[:, 1]
    assert ((ratio <= 4 / 3 + 1e-4) & (ratio >= 3 / 4 - 1e-4)).all()


def test_colors_change_by_no_more_than_configured_and_keep_gray_gray() -> None:
    grey = torch.full((64, 3, 6, 6), 100, dtype=torch.uint8)
    found = ImageAugment(flip=0, crop=1, color=0.2)(grey, generator(0)).pixels.float()
    assert (found >= 79.5).all()
    assert (found <= 120.5).all()
    assert found.std() > 5
    assert (found.amax(1) - found.amin(1)).max() <= 1


def test_one_matrix_does_what_three_steps_would() -> None:
    pixels, augment = noise(5), ImageAugment(flip=0, crop=1, color=0.15)
    pixels = pixels // 2 + 64  # so that nothing is cut at 0 or 255
    found = augment(pixels, generator(3)).pixels.float()
    b, c, s = (1 + 0.15 * (2 * torch.rand(3, 5, generator=generator(3)) - 1))[..., None, None, None]
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    bright = pixels.float() * b
    mean = (bright * weights).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    contrasted = mean + (bright - mean) * c
    grey = (contrasted * weights).sum(1, keepdim=True)
    expected = grey + (contrasted - grey) * s
    assert (found - expected.clamp(0, 255)).abs().max() <= 0.51


def test_a_box_outside_the_crop_comes_out_empty() -> None:
    affine = torch.tensor([[[2.0, 0, -1], [0, 2, -1]]])  # keeps the lower right quarter
    moved = move_boxes_xyxy(torch.tensor([[[0.0, 0, 0.4, 0.4], [0.5, 0.5, 1, 1], [0.25, 0.5, 0.75, 1]]]), affine)[0]
    assert moved[0].tolist() == [0, 0, 0, 0]
    assert moved[1].tolist() == [0, 0, 1, 1]
    assert moved[2].tolist() == [0, 0, 0.5, 1]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 6), st.sampled_from(["none", "mixup", "cutmix"]), seeds)
def test_blending_has_the_shares_it_returns(n: int, kind: Mix, seed: int) -> None:
    pixels, augment = noise(n, 12, 10), ImageAugment(mix=kind)
    found = augment.blend(pixels, generator(seed))
    assert found.pixels.dtype == torch.uint8
    assert sorted(found.permutation.tolist()) == list(range(n))
    assert ((found.lam >= 0) & (found.lam <= 1)).all()
    others, own = pixels[found.permutation].float(), pixels.float()
    lam = found.lam[:, None, None, None]
    if kind == "cutmix" and n > 1:
        from_own, from_other = (found.pixels == pixels).all(1), (found.pixels == pixels[found.permutation]).all(1)
        assert (from_own | from_other).all()
        different = found.permutation != torch.arange(n)
        torch.testing.assert_close(from_own.float().mean((1, 2))[different], found.lam[different], atol=0.05, rtol=0)
    else:
        assert (found.pixels.float() - (lam * own + (1 - lam) * others)).abs().max() <= 0.51 if n else True
    assert torch.equal(augment.blend(pixels, generator(seed)).pixels, found.pixels)


def test_how_much_is_mixed() -> None:
    pixels = torch.zeros(4000, 3, 4, 4, dtype=torch.uint8)
    lam = ImageAugment(mix="mixup").blend(pixels, generator(0)).lam
    assert lam.mean() == pytest.approx(0.5, abs=0.03)
    assert lam.var() == pytest.approx(1 / (4 * (2 * 0.2 + 1)), abs=0.01)  # of Beta(0.2, 0.2)
    lam = ImageAugment(mix="cutmix").blend(torch.zeros(2000, 3, 16, 16, dtype=torch.uint8), generator(0)).lam
    assert 0.5 < lam.mean() < 0.75  # rectangles that reach over the edge are cut
