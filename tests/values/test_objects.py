"""Objects of a cell: flags, turned boxes, and what cannot be learned from an image as the model sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from polydetr.errors import RowError
from polydetr.values.boxes import OUTSIDE, ZERO_AREA, are_shares, around_turned
from polydetr.values.framing import Frame
from polydetr.values.objects import CROPPED, CROWD, MOSTLY_OUTSIDE, TOO_SMALL, Objects, is_crowd, read_objects

WIDE = Frame(1 / 500, 1 / 200, 0.0, 0.0, 500.0, 200.0)
"""An image of 500×200, stretched to a square."""


def objects(*boxes: Sequence[float], **more: Any) -> Objects:
    return read_objects([{"box": box, "label": "post", **more} for box in boxes], column="objects")


@pytest.mark.parametrize("value", [0, 0.0, "0", "false", "No", "", None, False, float("nan"), -1, np.bool_(False)])
def test_what_is_no_crowd(value: Any) -> None:
    assert not is_crowd(value)
    assert "crowd" not in objects([1, 1, 9, 9], crowd=value).items[0]


@pytest.mark.parametrize("value", [1, 1.0, "1", "TRUE", "yes", True])
def test_what_is_a_crowd(value: Any) -> None:
    found = objects([1, 1, 9, 9], iscrowd=value)
    assert found.items[0]["crowd"]
    assert found.learned == []


def test_a_flag_that_says_neither_is_refused() -> None:
    with pytest.raises(RowError, match=r"object 1: 'perhaps' is no answer to whether it is a crowd, expected 0 or 1"):
        objects([1, 1, 9, 9], crowd="perhaps")


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [
        (90, [40, 20, 60, 80]),
        (-90, [40, 20, 60, 80]),
        (180, [20, 40, 80, 60]),
        (45, [21.7157, 21.7157, 78.2843, 78.2843]),
    ],
)
def test_the_box_around_a_turned_one(degrees: float, expected: list[float]) -> None:
    assert around_turned([20, 40, 80, 60], degrees) == pytest.approx(expected, abs=1e-4)
    found = objects([20, 40, 80, 60], rotation=degrees)
    assert found.items[0]["box"] == pytest.approx(expected, abs=1e-4)
    assert any("is turned" in message for message in found.messages) == (degrees != 180)


def test_an_angle_without_a_unit_is_refused() -> None:
    assert objects([20, 40, 80, 60], angle=0).items[0]["box"] == [20, 40, 80, 60]
    with pytest.raises(RowError, match=r"turned by angle = 0\.5, whose unit is not known: call it 'rotation'"):
        objects([20, 40, 80, 60], angle=0.5)


def test_every_reason_not_to_learn_an_object_is_told() -> None:
    boxes = ([10, 10, 60, 60], [600, 10, 700, 60], [450, 10, 700, 60], [5, 5, 8, 100], [30, 30, 30, 90])
    found = objects(*boxes).on_image(WIDE, 64)
    assert [item["box"] for item in found.items] == [[10, 10, 60, 60], [450, 10, 500, 60], [5, 5, 8, 100]]
    assert [item["box"] for item in found.learned] == [[10, 10, 60, 60]]
    assert [kind for kind, _ in found.left_out] == [ZERO_AREA, OUTSIDE]
    assert {i: kind for i, (kind, _) in found.unlearned.items()} == {1: MOSTLY_OUTSIDE, 2: TOO_SMALL}
    assert found.unlearned[2][1] == "post: 3×95 of 500×200 pixels, 0.38×30 of the 64×64 that the model sees"
    assert found.arrays({"post": 0})[0].tolist() == [[10, 10, 60, 60]]
    assert objects(boxes[3]).on_image(WIDE, 256).learned  # a larger image.size shows it
    assert objects([0, 0, 9, 9], crowd=1).on_image(WIDE, 64).unlearned[0][0] == CROWD


def test_what_a_crop_cuts_away_is_told() -> None:
    cropped = Frame(1 / 200, 1 / 200, -0.75, 0.0, 500.0, 200.0)  # the middle square of 500×200
    found = objects([0, 50, 120, 150], [200, 50, 300, 150]).on_image(cropped, 64)
    assert {i: kind for i, (kind, _) in found.unlearned.items()} == {0: CROPPED}


@pytest.mark.parametrize(
    ("boxes", "shares"),
    [
        ([[0.1, 0.2, 0.5, 0.6], [0.6, 0.1, 1.03, 0.9]], True),
        ([[0.1, 0.2, 0.5, 0.6], [0.2, 0.3, 0.4, 0.5], [10, 20, 30, 40]], True),
        ([[0.1, 0.2, 0.5, 0.6], [10, 20, 30, 40]], False),
        ([[0, 0, 1, 1], [0, 0, 1, 1]], False),
        ([[0, 0, 1, 1], [0, 0, 0.5, 1]], True),
        ([[1.5, 2.5, 30.5, 40.5]], False),
        ([[float("nan")] * 4], False),
    ],
)
def test_shares_and_pixels_are_told_apart_by_all_boxes(boxes: list[list[float]], shares: bool) -> None:
    assert are_shares(np.array(boxes)) == shares


@pytest.mark.parametrize("value", [{"area": "wide"}, {"area": 10**400}, {"rotation": "x"}, {"box": [10**400] * 4}])
def test_odd_values_are_errors_of_the_row(value: dict[str, Any]) -> None:
    with pytest.raises(RowError, match="object 1: "):
        read_objects([{"box": [1, 2, 3, 4], "label": "x", **value}], column="objects")
