"""Two models on the same rows."""

from __future__ import annotations

from typing import Any

import pytest

from polydetr.studio.differences import (
    columns_lacking,
    common_targets,
    compared,
    is_right,
    is_same,
    outcomes_of_replies,
)

SPAN = {"start": 0, "end": 3, "label": "PER", "text": "Ada", "probability": 0.9}


def replies(*answers: Any, sure: float = 0.9) -> list[dict[str, Any]]:
    return [{"prediction": {"label": one}, "probability": {"label": sure}} for one in answers]


def test_rows_that_decide_between_the_models_come_first() -> None:
    rows = [{"text": str(i)} for i in range(4)]
    found = compared(
        "label", "classification", rows, replies("a", "b", "b", "a"), replies("a", "c", "a", "b"), ["a", "a", "a", None]
    )
    assert (found.rows, found.same, found.measured, found.right) == (4, 1, 3, (1, 2))
    assert [one.number for one in found.differences] == [3, 2, 4]
    assert found.differences[0].right == (False, True)
    assert found.agreement[0] < 0.25 < found.agreement[1]


def test_a_row_that_one_cannot_answer_is_counted_and_left_out() -> None:
    failed = [{"error": {"message": "no text"}}, *replies("a")]
    found = compared("label", "classification", [{}, {}], failed, replies("a", "a"), [None, None])
    assert (found.rows, found.same, found.failed, found.measured) == (1, 1, (1, 0), 0)


def test_numbers_are_the_same_within_a_thousandth_and_the_farthest_come_first() -> None:
    first, second = replies(100.0, 5.0, 1.0), replies(100.05, 9.0, 1.5)
    found = compared("label", "regression", [{}, {}, {}], first, second, [100, 6, None])
    assert found.same == 1
    assert [one.number for one in found.differences] == [2, 3]
    assert found.errors == pytest.approx((0.5, 1.525))


@pytest.mark.parametrize(
    ("task", "answer", "gold", "right"),
    [
        ("classification", "a", "a", True), ("classification", "1", 1, True), ("classification", 1, "1.0", True),
        ("classification", ["b", "a"], ["a", "b"], True), ("classification", "a", "b", False),
        ("classification", "a", None, None), ("classification", "a", "", None),
        ("entities", [SPAN], [{"start": 0, "end": 3, "label": "PER"}], True), ("entities", [], [SPAN], False),
        ("entities", [SPAN], "B-PER O", None), ("qa", {"text": "Rome"}, ["Rome", "in Rome"], True),
        ("qa", {"text": "Paris"}, {"text": ["Rome"]}, False), ("detection", [], [], None),
    ],
)  # fmt: skip
def test_an_answer_is_right_as_the_rows_label_says(task: str, answer: Any, gold: Any, right: bool | None) -> None:
    assert is_right(task, answer, gold) is right


def test_boxes_are_the_same_where_they_overlap_by_half_under_one_label() -> None:
    box = {"label": "car", "box": [0, 0, 10, 10]}
    assert is_same("detection", [box], [{"label": "car", "box": [1, 0, 11, 10]}])
    assert not is_same("detection", [box], [{"label": "bus", "box": [0, 0, 10, 10]}])
    assert not is_same("detection", [box], [{"label": "car", "box": [8, 8, 18, 18]}])
    assert not is_same("detection", [box], [])
    assert is_same("detection", [], [])


def test_only_targets_that_both_answer_in_one_way_are_laid_side_by_side() -> None:
    first = {"a": "classification", "b": "regression", "c": "embedding"}
    assert common_targets(first, {"a": "classification", "b": "classification", "c": "embedding"}) == {
        "a": "classification"
    }
    assert columns_lacking([{"text": "x"}, {"more": 1}], ["text", "title", "more"]) == ["title"]


def test_rows_asked_just_now_become_outcomes_by_their_labels() -> None:
    rows = [{"t": 1}, {"t": 2}, {"t": 3}]
    answers = [*replies("a", "b"), {"error": {"message": "bad"}}]
    found = outcomes_of_replies(rows, answers, ["a", "a", "a"], "label", "classification")
    assert [(one.row["t"], one.right) for one in found] == [(1, True), (2, False)]
