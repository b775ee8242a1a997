"""Which row is next, and what is left out."""

from __future__ import annotations

import pytest
from correction_cases import CLASSES

from polydetr.errors import RowError
from polydetr.serving.rows import Columns
from polydetr.studio.correct_queue import Case, Queue
from polydetr.studio.handed_rows import HandedRows, RowSet


def queue_of(*confidences: float | None) -> Queue:
    queue = Queue.of([{"text": f"row {i}"} for i in range(len(confidences))], Columns.of(CLASSES), ["label"])
    for case, confidence in zip(queue.cases, confidences, strict=True):
        if confidence is not None:
            case.reply = {"prediction": {"label": "good"}, "probability": {"label": confidence}}
    return queue


def numbers(queue: Queue) -> list[int]:
    found: list[int] = []
    while (case := queue.next()) is not None:
        found.append(case.number)
    return found


def test_the_least_certain_is_next_and_what_is_done_comes_last() -> None:
    queue = queue_of(0.9, 0.5, None, 0.7)
    queue.cases[1].done = True
    assert numbers(queue) == [4, 1, 3, 2]
    assert queue.done == 1


def test_without_doubt_the_order_is_that_of_the_file() -> None:
    queue = queue_of(0.9, 0.5, 0.7)
    queue.by_doubt = False
    assert numbers(queue) == [1, 2, 3]


def test_back_and_on_again_shows_the_same_rows() -> None:
    queue = queue_of(0.9, 0.5, 0.7)
    assert (queue.next(), queue.next()) == (queue.cases[1], queue.cases[2])
    assert queue.previous() is queue.cases[1]
    assert queue.previous() is None
    queue.cases[0].reply = {"probability": {"label": 0.1}}  # another answer has come: what was seen keeps its place
    assert [case.number for case in (queue.next(), queue.next()) if case] == [3, 1]


def test_a_row_is_gone_to_by_its_content_and_comes_once() -> None:
    queue = queue_of(0.9, 0.5, 0.7)
    queue.next()
    assert queue.go(queue.cases[0].key) is queue.cases[0]
    assert queue.go("no such key") is None
    assert numbers(queue) == [3]


def test_rows_are_there_once_and_bad_ones_are_told() -> None:
    items = [{"text": "a"}, RowError("line 2 is torn."), {"text": "a"}, {"other": 1}]
    queue = Queue.of(items, Columns.of(CLASSES))
    assert [case.number for case in queue.cases] == [1]
    assert queue.repeated == 1
    assert queue.rejected[0].message == "line 2 is torn."
    assert "text" in queue.rejected[1].message


def test_the_revision_is_that_which_was_seen() -> None:
    assert Case(1, {"text": "a"}, "key").revision("label") == 0


def test_sets_of_rows_are_found_by_their_model_and_leave_with_time_number_and_size() -> None:
    clock = [0.0]
    sets = HandedRows(count=2, size=20_000, age_s=10, now=lambda: clock[0])
    first = sets.put(RowSet("films", [{"text": "a"}]))
    assert sets.get(first, "films") is not None
    assert sets.get(first, "others") is None
    second, third = sets.put(RowSet("films", [{"text": "b"}])), sets.put(RowSet("films", [{"text": "c"}]))
    assert sets.get(first, "films") is None
    assert sets.get(second, "films") is not None
    big = sets.put(RowSet("films", [{"text": "x" * 20_000}]))
    assert [sets.get(name, "films") is not None for name in (second, third, big)] == [False, False, True]
    clock[0] = 10.5
    assert sets.get(big, "films") is None


def test_what_is_held_is_measured_once() -> None:
    class Counted:
        model, measured = "films", 0

        @property
        def size(self) -> int:
            self.measured += 1
            return 1

    sets, rows = HandedRows[Counted](), Counted()
    name = sets.put(rows)
    assert sets.get(name, "films") is sets.get(name, "films") is rows
    assert rows.measured == 1


@pytest.mark.parametrize("count", [3])
def test_again_begins_with_what_is_left(count: int) -> None:
    queue = queue_of(*[0.5] * count)
    numbers(queue)
    queue.cases[0].done = True
    queue.again()
    assert numbers(queue) == [2, 3, 1]
