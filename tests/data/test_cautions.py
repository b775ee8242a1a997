"""What is said of the rows before training: too few of them, of a class, or a class for each."""

import pytest

from polydetr.data.cautions import cautions_of_rows, few_per_class, few_rows, ids_as_labels
from polydetr.data.inspect import inspect_data


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            {"train": 3, "valid": 1},
            ["3 training rows can teach little", "a score on 1 validation row is coarse: .* 21%"],
        ),
        ({"train": 1}, ["1 training row can"]),
        ({"train": 20, "valid": 29, "test": 4}, ["on 29 validation rows .* 88%", "on 4 test rows .* 51%"]),
        ({"train": 20, "valid": 30}, []),
    ],
)
def test_few_rows_with_the_interval_that_they_imply(rows, said):
    """The bound is Wilson's for n of n right, n / (n + 1.96²)."""
    import re

    lines = few_rows(rows, ["classification"])
    assert len(lines) == len(said)
    assert all(re.search(pattern, line) for pattern, line in zip(said, lines, strict=True)), lines


def test_a_quantity_is_not_right_or_wrong():
    (line,) = few_rows({"train": 90, "valid": 9}, ["regression"])
    assert "right" not in line


def test_ids_are_no_classes():
    (line,) = ids_as_labels("user", {f"u{i}": 1 for i in range(12)})
    assert "'user' has 12 classes in 12 rows" in line
    assert "user:embedding" in line
    assert not ids_as_labels("user", {f"u{i}": 2 for i in range(12)})
    assert not ids_as_labels("user", {"a": 2, "b": 1})  # three rows are few, not ids


def test_classes_without_rows_to_measure_them_on():
    train = {"a": 90, "b": 80, "c": 7}
    (line,) = few_per_class("label", train, {"a": 30, "b": 4}, "valid")
    assert line.startswith("of 3 classes of 'label', 2 have fewer than 5 validation rows ('c' 0, 'b' 4)")
    assert not few_per_class("label", train, {"a": 30, "b": 9, "c": 5}, "valid")
    assert not few_per_class("label", train, {}, "valid")  # a split without labels measures nothing


def test_one_line_says_it_once():
    counts = {"train": {"a": 9, "b": 9}, "valid": {"a": 3}}
    assert len(cautions_of_rows({"train": 40, "valid": 3}, {"y": "classification"}, {"y": counts})) == 1
    ids = {"train": {str(i): 1 for i in range(40)}, "valid": {"x": 40}}
    (line,) = cautions_of_rows({"train": 40, "valid": 40}, {"y": "classification"}, {"y": ids})
    assert "look like ids" in line


def test_inspect_says_them():
    rows = [{"text": f"a text about thing {i}", "label": f"u{i}"} for i in range(12)]
    text = " ".join(inspect_data(rows, valid=rows[:2], target="label", suspicious=False).to_text(width=300).split())
    assert "12 training rows can teach little" in text
    assert "a score on 2 validation rows is coarse" in text
    assert "'label' has 12 classes in 12 rows" in text
