"""What a person says is right: checked, in one form, and refused with the place of the fault."""

from __future__ import annotations

import math
from typing import Any

import pytest
from correction_cases import (
    BOXES,
    CLASSES,
    ENTITIES,
    NUMBER,
    PARTS,
    QUESTIONS,
    SEVERAL,
    TAGS,
    TOKENS,
    TYPED,
    VECTORS,
    checked,
    image_bytes,
)
from hypothesis import given
from hypothesis import strategies as st

from polydetr.errors import InputError
from polydetr.modalities.text import as_text
from polydetr.serving.contract import ModelInfo
from polydetr.studio.correction_values import TargetForm, check, same_value

TEXT = {"text": "Ada Lovelace met Ben in London"}
PASSAGE = {"question": "who?", "context": "Ada met Ben, and Ben met Ada"}
IMAGE = {"image": image_bytes()}
ENTITY = {"title": "news", "text": "Bank of England"}

GOOD: list[tuple[ModelInfo, dict[str, Any], Any, Any]] = [
    (CLASSES, TEXT, "good", "good"),
    (CLASSES, TEXT, " good ", "good"),
    (TYPED, TEXT, "2", 2),
    (TYPED, TEXT, 3.0, 3),
    (SEVERAL, TEXT, [], []),
    (SEVERAL, TEXT, ["sport", "art", "sport"], ["art", "sport"]),
    (NUMBER, TEXT, 4.5, 4.5),
    (NUMBER, TEXT, "1,250", 1250.0),
    (TAGS, TEXT, [], []),
    (TAGS, TEXT, [{"start": 17, "end": 20, "label": "PER"}, {"start": 0, "end": 12, "label": "PER"}],
     [{"start": 0, "end": 12, "label": "PER", "text": "Ada Lovelace"},
      {"start": 17, "end": 20, "label": "PER", "text": "Ben"}]),
    (TAGS, TEXT, [{"start": 3, "end": 13, "label": "PER"}],
     [{"start": 4, "end": 12, "label": "PER", "text": "Lovelace"}]),
    (TOKENS, {"tokens": ["New", "York", "!"]}, [{"start": 0, "end": 8, "label": "LOC"}],
     [{"start": 0, "end": 8, "label": "LOC", "text": "New York"}]),
    (ENTITIES, ENTITY, [{"start": 8, "end": 15, "label": "LOC"}, {"start": 0, "end": 15, "label": "PER"}],
     [{"start": 0, "end": 15, "label": "PER", "text": "Bank of England"},
      {"start": 8, "end": 15, "label": "LOC", "text": "England"}]),
    (QUESTIONS, PASSAGE, None, {"text": "", "start": None, "end": None}),
    (QUESTIONS, PASSAGE, "", {"text": "", "start": None, "end": None}),
    (QUESTIONS, PASSAGE, {"start": 8, "end": 12}, {"text": "Ben,", "start": 8, "end": 12}),
    (QUESTIONS, PASSAGE, {"text": "Ben", "start": 17}, {"text": "Ben", "start": 17, "end": 20}),
    (QUESTIONS, PASSAGE, "and Ben", {"text": "and Ben", "start": 13, "end": 20}),
    (BOXES, IMAGE, [], []),
    (BOXES, IMAGE, [{"box": [20, 2, 4, 10], "label": "dog"}], [{"box": [4.0, 2.0, 20.0, 10.0], "label": "dog"}]),
    (BOXES, IMAGE, [{"box": [-5, 2, 40, 10], "label": "cat"}], [{"box": [0.0, 2.0, 32.0, 10.0], "label": "cat"}]),
]  # fmt: skip


@pytest.mark.parametrize(("info", "row", "value", "expected"), GOOD)
def test_a_good_value_comes_into_its_one_form(info: ModelInfo, row: dict[str, Any], value: Any, expected: Any) -> None:
    found = checked(info, value, row)
    assert found.value == expected
    assert type(found.value) is type(expected)
    assert checked(info, found.value, row).value == expected


BAD: list[tuple[ModelInfo, dict[str, Any], Any, str]] = [
    (CLASSES, TEXT, "god", "the label 'god' is unknown. Did you mean 'good'?"),
    (CLASSES, TEXT, None, "None is no label, expected one of 'bad', 'good'"),
    (CLASSES, TEXT, ["good"], "is no label"),
    (CLASSES, TEXT, math.nan, "nan is no label"),
    (SEVERAL, TEXT, "art", "'art' is no list of labels"),
    (SEVERAL, TEXT, ["art", "fim"], "the label 'fim' is unknown. Did you mean 'film'?"),
    (NUMBER, TEXT, math.nan, "nan is no number, expected a finite one"),
    (NUMBER, TEXT, math.inf, "infinite"),
    (NUMBER, TEXT, "many", "'many'"),
    (NUMBER, TEXT, True, "True is a truth value, expected a number"),
    (NUMBER, TEXT, None, "None is no number"),
    (TAGS, TEXT, "PER", "'PER' is no list of spans"),
    (TAGS, TEXT, ["O"], "span 1: 'O' is none"),
    (TAGS, TEXT, [{"start": 17, "end": 99, "label": "PER"}], "it lies outside; the text has 30 characters"),
    (TAGS, TEXT, [{"start": -1, "end": 3, "label": "PER"}], "characters -1 to 3: it lies outside"),
    (TAGS, TEXT, [{"start": 5, "end": 5, "label": "PER"}], "it is empty"),
    (TAGS, TEXT, [{"start": 5, "end": 2, "label": "PER"}], "it ends before it starts"),
    (TAGS, TEXT, [{"start": 3, "end": 4, "label": "PER"}], "white space alone"),
    (TAGS, TEXT, [{"start": math.nan, "end": 4, "label": "PER"}], "its start is nan"),
    (TAGS, TEXT, [{"start": 0, "end": math.inf, "label": "PER"}], "its end is inf"),
    (TAGS, TEXT, [{"start": 0, "end": 2.5, "label": "PER"}], "its end is 2.5"),
    (TAGS, TEXT, [{"start": 0, "end": True, "label": "PER"}], "its end is True"),
    (TAGS, TEXT, [{"start": 0, "end": 3, "label": "PRE"}], "span 1: the label 'PRE' is unknown. Did you mean 'PER'?"),
    (TAGS, TEXT, [{"start": 0, "end": 3, "label": "PER", "text": "Ben"}], "'Ben', but characters 0 to 3 are 'Ada'"),
    (TAGS, TEXT, [{"start": 0, "end": 12, "label": "PER"}, {"start": 4, "end": 16, "label": "LOC"}],
     "'Ada Lovelace' (PER) and 'Lovelace met' (LOC) overlap"),
    (PARTS, {"text": "dogs run"}, [{"start": 0, "end": 4, "label": "NOUN"}], "the word 'run' has no label of its own"),
    (QUESTIONS, PASSAGE, "Ben", "stands 2 times in the passage"),
    (QUESTIONS, PASSAGE, "Cy", "stands nowhere in the passage"),
    (QUESTIONS, PASSAGE, {"start": 0, "end": 99}, "it lies outside"),
    (QUESTIONS, PASSAGE, {"text": "Ada", "start": 1}, "it says 'Ada', but"),
    (QUESTIONS, PASSAGE, 7, "7 is no answer"),
    (BOXES, IMAGE, [{"box": [40, 2, 50, 10], "label": "dog"}], "lies outside its image of 32×24"),
    (BOXES, IMAGE, [{"box": [4, 2, 4, 10], "label": "dog"}], "has no area"),
    (BOXES, IMAGE, [{"box": [4, math.nan, 8, 10], "label": "dog"}], "not a finite number"),
    (BOXES, IMAGE, [{"box": [4, True, 8, 10], "label": "dog"}], "True is not a number"),
    (BOXES, IMAGE, [{"box": [4, 2, 8], "label": "dog"}], "is not left, top, right, bottom"),
    (BOXES, IMAGE, [{"box": [4, 2, 8, 10], "label": "dg"}], "box 1: the label 'dg' is unknown. Did you mean 'dog'?"),
    (BOXES, {"image": b"none"}, [], "image"),
    (BOXES, {"image": None}, [], "the row has 0 images in 'image', expected one"),
]  # fmt: skip


@pytest.mark.parametrize(("info", "row", "value", "said"), BAD)
def test_a_bad_value_is_refused_with_its_place(info: ModelInfo, row: dict[str, Any], value: Any, said: str) -> None:
    with pytest.raises(InputError) as caught:
        checked(info, value, row)
    assert said in str(caught.value)
    assert caught.value.location is not None
    assert caught.value.location.column is not None


def test_a_label_that_is_new_is_taken_where_that_is_said_and_told() -> None:
    found = checked(CLASSES, "so-so", TEXT, new_label=True)
    assert found.value == "so-so"
    assert found.messages == ("the label so-so is new: the model answers it once it was trained with it",)
    assert checked(SEVERAL, ["chess", "art"], TEXT, new_label=True).value == ["art", "chess"]
    for bad in ("x" * 201, "two\nlines", "nul\0"):
        with pytest.raises(InputError, match="cannot be a label"):
            checked(CLASSES, bad, TEXT, new_label=True)


def test_what_was_done_to_a_value_is_told() -> None:
    said = checked(TAGS, [{"start": 1, "end": 2, "label": "PER"}] * 2, TEXT).messages
    assert said[0] == "span 1: 'd' was widened to 'Ada', as labels are those of whole words"
    assert said[2] == "span 2: it is there twice, and kept once"
    said = checked(BOXES, [{"box": [-5, 2, 40, 10], "label": "cat"}], IMAGE).messages
    assert said == ("box 1: the box [-5, 2, 40, 10] reaches 8 pixels out of its image of 32×24",)


def test_only_what_people_can_say_is_corrected() -> None:
    with pytest.raises(InputError, match="one of embedding, whose answers nobody corrects by hand"):
        TargetForm.of(VECTORS, "near")
    with pytest.raises(InputError, match="Did you mean 'label'"):
        TargetForm.of(CLASSES, "labels")
    assert TargetForm.of(ENTITIES, "entities").column == "text"  # the last text is the one that spans count in
    form = TargetForm.of(TYPED, "level")
    assert TargetForm.from_dict(form.to_dict()) == form


def test_an_answer_is_confirmed_by_its_value_alone() -> None:
    form = TargetForm.of(TAGS, "tags")
    answer = [{"start": 0, "end": 3, "label": "PER", "text": "Ada", "probability": 0.7}]
    assert same_value(form, check(form, answer, TEXT).value, answer, TEXT)
    assert not same_value(form, [], answer, TEXT)
    assert not same_value(TargetForm.of(QUESTIONS, "answers"), {"text": "", "start": None, "end": None}, None, PASSAGE)


# -- any text, any number ---------------------------------------------------------------------------------------------

ODD = "שלום عربي \u200b\u200d\u202e\r\n\t=cmd|' /C calc'!A0 𝒳👩\u200d👩\u200d👧 é 北京 don't 3,14"
TEXTS = st.text(st.sampled_from(ODD) | st.characters(exclude_categories=["Cs"]), max_size=40)


@given(text=TEXTS, places=st.lists(st.tuples(st.integers(-3, 45), st.integers(-3, 45)), max_size=4))
def test_spans_of_any_text_are_whole_words_or_refused(text: str, places: list[tuple[int, int]]) -> None:
    spans = [{"start": a, "end": b, "label": "PER"} for a, b in places]
    row = {"title": "", "text": text}
    try:
        found = checked(ENTITIES, spans, row)
    except InputError:
        return
    words = as_text(text, field="text").words
    starts, ends = {a for a, _ in words}, {b for _, b in words}
    for one in found.value:
        assert one["start"] in starts
        assert one["end"] in ends
        assert text[one["start"] : one["end"]] == one["text"]
    assert all(any(one["start"] < b and a < one["end"] for one in found.value) for a, b in places)
    assert checked(ENTITIES, found.value, row) == type(found)(found.value)


SIDES = st.floats() | st.integers(-50, 50) | st.floats(-40, 40)


@given(boxes=st.lists(st.tuples(SIDES, SIDES, SIDES, SIDES), max_size=3))
def test_boxes_of_any_numbers_lie_in_the_image_or_are_refused(boxes: list[tuple[float, ...]]) -> None:
    try:
        found = checked(BOXES, [{"box": list(box), "label": "cat"} for box in boxes], IMAGE)
    except InputError:
        return
    assert len(found.value) <= len(boxes)
    for one in found.value:
        left, top, right, bottom = one["box"]
        assert 0 <= left < right <= 32
        assert 0 <= top < bottom <= 24
    assert checked(BOXES, found.value, IMAGE) == type(found)(found.value)


KEYS = st.sampled_from(["start", "end", "label", "box", "text"])
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner),
    max_leaves=6,
)


@given(value=JSON)
def test_any_value_of_json_is_taken_or_refused(value: Any) -> None:
    for info, row in (
        (CLASSES, TEXT),
        (SEVERAL, TEXT),
        (NUMBER, TEXT),
        (TAGS, TEXT),
        (QUESTIONS, PASSAGE),
        (BOXES, IMAGE),
    ):
        try:
            found = checked(info, value, row, new_label=True)
        except InputError:
            continue
        assert checked(info, found.value, row, new_label=True).value == found.value
