"""Texts on the command line as rows of the columns that a model reads."""

from __future__ import annotations

import pytest

from polydetr.errors import InputError
from polydetr.inference.asked import rows_of_texts
from polydetr.schema.spec import FieldSpec, Schema


def schema(**inputs: str) -> Schema:
    return Schema(tuple(FieldSpec(name, kind) for name, kind in inputs.items()), ())


def test_one_column_takes_every_text_whole():
    rows = rows_of_texts(schema(text="text", id="ignore"), ["warm", "text=cold", "id=3"])
    assert rows == [{"text": "warm"}, {"text": "cold"}, {"text": "id=3"}]


def test_named_columns_make_rows():
    pairs = schema(question="text", passage="text")
    asked = ["question=Who?", "passage=Anna = me.", "question=Where?", "passage=There."]
    assert rows_of_texts(pairs, asked) == [
        {"question": "Who?", "passage": "Anna = me."},
        {"question": "Where?", "passage": "There."},
    ]
    mixed = schema(text="text", price="number")
    assert rows_of_texts(mixed, ["a=b", "price=3", "warm"]) == [{"text": "a=b", "price": "3"}, {"text": "warm"}]


def test_a_text_of_no_column_is_refused():
    with pytest.raises(InputError, match=r"which column is the text 'x=y'\? The model reads 'question', 'passage'"):
        rows_of_texts(schema(question="text", passage="text"), ["x=y"])
