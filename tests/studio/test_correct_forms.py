"""What an editor holds for a value, and back: nothing is rounded, moved or lost on the way."""

from __future__ import annotations

from typing import Any

import pytest
from correction_cases import BOXES, CLASSES, ENTITIES, NUMBER, QUESTIONS, SEVERAL, TAGS, TYPED, VECTORS, image_bytes

from polydetr.errors import InputError
from polydetr.studio.correct_forms import (
    Labels,
    answer_of,
    confidence_of,
    correctable,
    excerpt,
    first_value,
    held,
    is_held,
    lines_of,
    overlap_of,
    value_of,
)
from polydetr.studio.correction_values import TargetForm, check

TEXT = "Ada 😀 Lovelace met שלום in Paris"
ROWS: list[tuple[Any, str, dict[str, Any], Any]] = [
    (CLASSES, "label", {"text": "fine"}, "good"),
    (TYPED, "level", {"text": "fine"}, 3),
    (SEVERAL, "topics", {"text": "fine"}, ["art", "sport"]),
    (SEVERAL, "topics", {"text": "fine"}, []),
    (NUMBER, "stars", {"text": "fine", "minutes": 3}, 20.375389039852312),
    (NUMBER, "stars", {"text": "fine", "minutes": 3}, 7),
    (TAGS, "tags", {"text": TEXT}, [{"start": 6, "end": 14, "label": "PER", "text": "Lovelace"}]),
    (ENTITIES, "entities", {"title": "t", "text": TEXT}, [
        {"start": 0, "end": 14, "label": "PER", "text": TEXT[:14]},
        {"start": 6, "end": 14, "label": "PER", "text": "Lovelace"},
        {"start": 19, "end": 23, "label": "LOC", "text": "שלום"},
    ]),
    (QUESTIONS, "answers", {"question": "where?", "context": TEXT}, {"text": "Paris", "start": 27, "end": 32}),
    (QUESTIONS, "answers", {"question": "where?", "context": TEXT}, {"text": "", "start": None, "end": None}),
    (BOXES, "objects", {"image": image_bytes()}, [{"box": [1.125, 2.0, 20.333333333333332, 21.0], "label": "dog"}]),
]  # fmt: skip


@pytest.mark.parametrize(("info", "target", "row", "value"), ROWS)
def test_a_value_comes_back_as_it_was(info: Any, target: str, row: dict[str, Any], value: Any) -> None:
    form = TargetForm.of(info, target)
    labels = Labels(form.labels)
    checked = check(form, value, row).value
    holds = held(form, labels, checked)
    assert is_held(form, labels, holds, row)
    assert check(form, value_of(form, labels, holds, row), row).value == checked
    assert labels.new == []


def test_what_the_model_answered_begins_unless_somebody_said_better() -> None:
    form, row = TargetForm.of(CLASSES, "label"), {"text": "fine"}
    reply = {"prediction": {"label": "good"}, "probability": {"label": 0.9}}
    assert first_value(form, row, reply, None) == "good"
    assert first_value(form, row, None, None) is None
    assert first_value(form, row, {"prediction": {"label": {"no": "label"}}}, None) is None
    assert answer_of(reply, "label") == {"prediction": "good", "probability": 0.9}


def test_no_label_is_an_error_that_says_what_to_do() -> None:
    form = TargetForm.of(CLASSES, "label")
    with pytest.raises(InputError, match="no label is chosen"):
        value_of(form, Labels(form.labels), None, {"text": "fine"})


def test_a_label_that_is_new_has_a_number_and_keeps_the_colors_of_the_others() -> None:
    labels = Labels(("LOC", "PER"))
    before = labels.colors
    assert labels.add("PER") == 1
    assert labels.add("<b>") == 2
    assert labels.names == ["LOC", "PER", "<b>"]
    assert labels.colors[:2] == before
    assert len(labels.colors) == 3


def test_confidence_is_that_of_the_least_certain_part() -> None:
    assert confidence_of({"probability": {"y": 0.7}}, "y") == 0.7
    assert confidence_of({"prediction": {"y": [{"probability": 0.9}, {"probability": 0.4}]}}, "y") == 0.4
    assert confidence_of({"prediction": {"y": []}}, "y") is None
    assert confidence_of({"probability": {"y": float("nan")}}, "y") is None
    assert confidence_of(None, "y") is None


@pytest.mark.parametrize(
    "kept",
    ["x", 7, {"start": 0}, [{"start": 0, "end": 99, "label": 0}], [{"start": 3, "end": 3, "label": 0}],
     [{"start": 0, "end": 3, "label": 9}], [{"start": True, "end": 3, "label": 0}], [None]],
)  # fmt: skip
def test_a_draft_that_fits_no_editor_is_not_taken(kept: Any) -> None:
    form = TargetForm.of(ENTITIES, "entities")
    assert not is_held(form, Labels(form.labels), kept, {"title": "t", "text": TEXT})


def test_a_draft_of_boxes_and_labels_is_judged_too() -> None:
    boxes, classes = TargetForm.of(BOXES, "objects"), TargetForm.of(SEVERAL, "topics")
    row = {"image": image_bytes()}
    assert is_held(boxes, Labels(boxes.labels), [{"box": [1, 2, 3, 4.5], "label": 1}], row)
    for box in ([1, 2, 3], [1, 2, 3, float("inf")], [1, 2, 3, "4"], "abcd"):
        assert not is_held(boxes, Labels(boxes.labels), [{"box": box, "label": 1}], row)
    assert not is_held(classes, Labels(classes.labels), [3], {"text": "t"})


def test_values_in_words() -> None:
    assert lines_of(TargetForm.of(SEVERAL, "topics"), ["art", "film"]) == ["art", "film"]
    assert lines_of(TargetForm.of(QUESTIONS, "answers"), {"text": "", "start": None, "end": None}) == []
    assert lines_of(TargetForm.of(BOXES, "objects"), [{"box": [1, 2.5, 3, 4], "label": "dog"}]) == ["dog  1, 2.5, 3, 4"]
    (line,) = lines_of(
        TargetForm.of(ENTITIES, "entities"), [{"start": 0, "end": 300, "label": "PER", "text": "x" * 300}]
    )
    assert len(line) < 80


def test_what_spans_may_do_follows_from_the_task() -> None:
    assert [overlap_of(TargetForm.of(info, target)) for info, target in (
        (ENTITIES, "entities"), (TAGS, "tags"), (QUESTIONS, "answers"))] == ["allowed", "apart", "one"]  # fmt: skip


def test_a_row_in_a_line() -> None:
    assert excerpt({"a": " x\n y ", "image": b"...", "n": 3}) == "x y · 3"
    assert len(excerpt({"a": "word " * 1000})) == 120


def test_targets_that_nobody_corrects_are_named() -> None:
    forms, messages = correctable(VECTORS, ["near"])
    assert forms == {}
    assert "embedding" in messages[0]
