"""Columns that give the target away are reported, honest ones are not."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from polydetr.data.leaks import MAX_ROWS, find_leaks
from polydetr.schema.spec import FieldSpec, Schema, TargetSpec

RNG = np.random.default_rng(0)
N = 200


def schema(column: str, task: str, *, name: str = "x") -> Schema:
    return Schema((FieldSpec(name, column),), (TargetSpec("y", task),))


def rows(x: Any, y: Any) -> list[dict[str, Any]]:
    return [{"x": a, "y": b} for a, b in zip(x, y, strict=True)]


LABELS = RNG.integers(0, 3, N)
CLASSES = [f"class {label}" for label in LABELS]
NUMBERS = RNG.normal(size=N)


def test_one_long_label_does_not_make_all_as_long() -> None:
    find_leaks(rows(NUMBERS, CLASSES), schema("number", "classification"))  # what it imports, is imported
    tracemalloc.start()
    find_leaks(rows(NUMBERS, ["l" * 50_000, *CLASSES[1:]]), schema("number", "classification"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6  # as an array of text: 4 * 50,000 * 200


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("number", LABELS + RNG.uniform(0, 0.5, N)),  # a threshold between each two classes
        ("number", [f"{label},000.5" for label in LABELS + 1]),
        ("category", [f"code {label}" for label in LABELS]),
        ("category", [f"code {label}" if i else "code 9" for i, label in enumerate(LABELS)]),  # but one
        ("date", [f"202{label}-05-0{1 + i % 9}" for i, label in enumerate(LABELS)]),
    ],
)
def test_a_column_that_tells_the_class_is_reported(kind: str, values: Any) -> None:
    (message,) = find_leaks(rows(values, CLASSES), schema(kind, "classification"))
    assert message.startswith("column 'x' alone predicts ")
    assert "of the 200 rows' classes (of 3) of 'y'" in message
    assert message.endswith("leave it out of the inputs")


def test_a_column_that_is_filled_for_one_class_alone_is_reported() -> None:
    values = [None if label else float(RNG.normal()) for label in LABELS]
    classes = ["alive" if label else "dead" for label in LABELS]
    (message,) = find_leaks(rows(values, classes), schema("number", "classification"))
    assert "alone predicts all of the 200 rows' classes (of 2)" in message


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("number", LABELS + RNG.normal(size=N)),  # good, and honest
        ("number", np.arange(N)),
        ("category", [f"id {i}" for i in range(N)]),  # determines the class of the rows it has seen, and no other
        ("category", ["same"] * N),
        ("number", [None] * N),
        ("text", CLASSES),
    ],
)
def test_an_honest_column_is_not_reported(kind: str, values: Any) -> None:
    assert find_leaks(rows(values, CLASSES), schema(kind, "classification")) == []


def test_a_rare_class_that_nothing_finds_is_no_leak() -> None:
    classes = ["no"] * (N - 4) + ["yes"] * 4  # always "no" is right in 98 % of the rows
    assert find_leaks(rows(NUMBERS, classes), schema("number", "classification")) == []
    thousand = rows(RNG.normal(size=1000), ["no"] * 995 + ["yes"] * 5)  # and here in 99.5 %
    assert find_leaks(thousand, schema("number", "classification")) == []


@pytest.mark.parametrize(
    ("kind", "values", "found"),
    [
        ("number", np.exp(-NUMBERS), "has the order (correlation -1.000)"),
        ("number", [f"{v:.6f}" for v in NUMBERS], "has the order (correlation 1.000)"),
        ("category", [f"{round(v * 1e3)}" for v in np.repeat(NUMBERS[: N // 10], 10)], "by the mean of each category"),
    ],
)
def test_a_column_that_orders_the_numbers_is_reported(kind: str, values: Any, found: str) -> None:
    y = np.repeat(NUMBERS[: N // 10], 10) if kind == "category" else NUMBERS
    (message,) = find_leaks(rows(values, y.tolist()), schema(kind, "regression"))
    assert found in message
    assert "of 'y'" in message


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("number", NUMBERS + 0.3 * RNG.normal(size=N)),
        ("category", [f"id {i}" for i in range(N)]),
        ("category", ["a", "b"] * (N // 2)),
        ("number", [1.0] * N),
    ],
)
def test_an_honest_column_for_a_number_is_not_reported(kind: str, values: Any) -> None:
    assert find_leaks(rows(values, NUMBERS.tolist()), schema(kind, "regression")) == []


def test_few_rows_several_labels_and_other_tasks_are_not_judged() -> None:
    assert find_leaks([], schema("number", "classification")) == []
    assert find_leaks(rows(LABELS[:20], CLASSES[:20]), schema("number", "classification")) == []
    assert find_leaks(rows(LABELS, [[c] for c in CLASSES]), schema("number", "classification")) == []
    assert find_leaks(rows(LABELS, CLASSES), schema("number", "tagging")) == []


def test_unreadable_values_and_rare_classes_do_no_harm() -> None:
    values: list[Any] = LABELS.tolist()
    classes = list(CLASSES)
    values[0], classes[1] = "what?", "met once"
    (message,) = find_leaks(rows(values, classes), schema("number", "classification"))
    assert "'x' alone predicts 99." in message


def test_a_large_table_is_sampled() -> None:
    labels = np.arange(4 * MAX_ROWS) // 2 % 2
    (message,) = find_leaks(rows(labels.tolist(), [f"c{v}" for v in labels]), schema("number", "classification"))
    assert f"all of the {MAX_ROWS} rows" in message
