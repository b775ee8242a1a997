"""Columns of lists: found however they are written, told apart from text, and read alike in every row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from polydetr.errors import RowError, SchemaError
from polydetr.schema.infer import infer_schema
from polydetr.schema.spec import Schema
from polydetr.values.lists import ListColumn, read_list, read_lists

TEXTS = ["sold cork in Porto", "no tin", "it sold tin in Perth today", "cork and tin sold"]


def schema_of(values: list[Any], *, other: list[Any] = TEXTS, column: str = "text", **how: Any) -> Schema:
    rows = [{column: text, "y": value} for text, value in zip(other, values, strict=True)]
    return infer_schema(rows, **{"targets": {"y": None}, **how})


def read(values: list[Any], schema: Schema) -> list[Any]:
    return [read_lists({"y": value}, schema.lists)["y"] for value in values]


LABELS = [["cork"], [], ["tin"], ["cork", "tin"]]


@pytest.mark.parametrize(
    "values",
    [
        LABELS,
        [str(v) for v in LABELS],
        ['["cork"]', "[]", '["tin"]', '["cork", "tin"]'],
        ["['cork']", "[]", "['tin']", "['cork' 'tin']"],
        ["cork", "", "tin", "cork|tin"],
        ["cork", "", "tin", "cork; tin"],
        ["cork", "", "tin", "cork, tin"],
    ],
)
def test_several_labels_are_read_in_every_notation(values: list[Any]) -> None:
    schema = schema_of(values)
    assert schema.targets[0].task == "classification"
    assert read(values, schema) == LABELS
    assert Schema.from_dict(schema.to_dict()).lists == schema.lists


def test_labels_that_hold_a_mark_without_parts_of_their_own_stay_whole() -> None:
    assert schema_of(["Porto, PT", "Perth, AU", "Porto, PT", "Perth, AU"]).lists == {}
    assert schema_of(["1,5", "2,5", "1,2", "5,2"]).lists == {}  # decimals
    whole = schema_of(["cork", "tin", "cork", "cork|tin"], options={"y": {"multi_label": False}})
    assert whole.lists == {}
    said = schema_of(["cork|oak", "tin", "cork", "tin"], options={"y": {"multi_label": True}})
    assert read(["cork|oak", ""], said) == [["cork", "oak"], []]


def test_what_was_read_into_the_cells_is_said_with_how_to_say_otherwise() -> None:
    messages = schema_of(["cork", "", "tin", "cork|tin"]).messages
    assert "'cork|tin' is read as several labels, parted by '|'" in messages[0]
    assert "--set tasks.y.multi_label=false" in messages[0]
    assert messages[1] == "Target 'y' is an empty cell in 1 of the 4 rows looked at: they have no label."
    assert (
        schema_of([str(v) for v in LABELS]).messages[0]
        == "Column 'y' writes lists as text and is read as lists: \"['cork']\"."
    )


VECTORS = [[1, 0, 0], [0, 0, 0], [0, 1, 0], [1, 1, 0]]


@pytest.mark.parametrize(
    "values",
    [
        VECTORS,
        [[float(x) for x in v] for v in VECTORS],
        [[bool(x) for x in v] for v in VECTORS],
        [str(v) for v in VECTORS],
        [" ".join(map(str, v)) for v in VECTORS],
        [",".join(map(str, v)) for v in VECTORS],
    ],
)
def test_vectors_of_zeros_and_ones_are_labels_by_their_place(values: list[Any]) -> None:
    schema = schema_of(values)
    assert read(values, schema) == [["0"], [], ["1"], ["0", "1"]]
    assert any("each of the 3 places is a label, '0' to '2'" in message for message in schema.messages)
    named = schema_of(values, options={"y": {"labels": ["cork", "tin", "zinc"]}})
    assert read(values, named) == LABELS
    with pytest.raises(SchemaError, match="vectors of 3 zeros and ones, and 2 labels are named"):
        schema_of(values, options={"y": {"labels": ["cork", "tin"]}})


TAGS = [["O", "B-GOOD", "O", "B-CITY"], ["O", "B-GOOD"], ["O", "O", "B-GOOD", "O", "B-CITY", "O"], ["O", "O", "O", "O"]]


@pytest.mark.parametrize("mark", [" ", ",", "|", None])
def test_tags_in_a_cell_are_one_per_word(mark: str | None) -> None:
    values = [str(tags) if mark is None else mark.join(tags) for tags in TAGS]
    schema = schema_of(values)
    assert (schema.targets[0].task, schema.names("text")) == ("tagging", ["text"])
    assert read(values, schema) == TAGS


def test_plain_labels_between_blanks_are_one_per_word_where_they_are_as_many() -> None:
    values = ["VERB NOUN ADP NAME", "DET NOUN", "PRON VERB NOUN ADP NAME ADV", "NOUN CONJ NOUN VERB"]
    assert schema_of(values).targets[0].task == "tagging"
    assert schema_of(["good news", "bad", "good news", "bad"]).targets[0].task == "classification"


@pytest.mark.parametrize("column", ["words", "tokens", "zeichen"])
@pytest.mark.parametrize("labels", [["GOOD", "O", "X", "Y"], [1, 0, 2, 3], ["B-A", "O", "O", "O"]])
@pytest.mark.parametrize("as_text", [False, True])
def test_a_label_for_each_word_is_tagging(column: str, labels: list[Any], as_text: bool) -> None:
    words = [text.split() for text in TEXTS]
    values = [[labels[i % 4] for i in range(len(w))] for w in words]
    if as_text:
        words, values = [str(w) for w in words], [str(v) for v in values]
    schema = schema_of(values, other=words, column=column)
    assert schema.targets[0].task == "tagging"
    assert schema.names("text") == [column]
    assert schema_of(values, other=words, column=column, inputs={column: None}).names("text") == [column]


@pytest.mark.parametrize("labels", [["NOUN", "VERB"], [0, 1]])
def test_labels_for_the_words_of_a_text_are_tagging_where_they_are_as_many(labels: list[Any]) -> None:
    values = [[labels[i % 2] for i in range(len(text.split()))] for text in TEXTS]
    for given in (values, [np.array(v) for v in values]):
        schema = schema_of(given)
        assert (schema.targets[0].task, schema.names("text")) == ("tagging", ["text"])


def test_a_vector_among_many_that_is_too_short_is_its_own_fault() -> None:
    texts, vectors = [f"row {i}" for i in range(20)], [*VECTORS * 4, *VECTORS[:3], [1, 0]]
    schema = schema_of(vectors, other=texts)
    assert schema.lists["y"].places == ("0", "1", "2")
    with pytest.raises(RowError, match=r"\[1, 0\] is not a vector of 3"):
        read(vectors, schema)


def test_labels_of_the_row_beside_words_stay_labels_of_the_row() -> None:
    schema = schema_of(LABELS, other=[text.split() for text in TEXTS], column="words")
    assert schema.targets[0].task == "classification"


def test_a_row_per_word_is_refused_with_the_layout_that_is_meant() -> None:
    with pytest.raises(SchemaError, match=r"one tag per row \('B-GOOD', 'O'\).*a blank line after each sentence"):
        schema_of(["O", "B-GOOD", "O", "O"])
    assert schema_of(["O", "B-GOOD", "O", "O"], targets={"y": "classification"}).targets[0].task == "classification"
    assert schema_of(["O", "B", "A", "AB"]).targets[0].task == "classification"


@pytest.mark.parametrize("task", [None, "tagging", "entities"])
def test_spans_that_count_words_are_refused(task: str | None) -> None:
    words = [["cork", "oil", "from", "Porto"], ["tin", "from", "Perth"]]
    spans = [[[0, 2, "GOOD"], [3, 4, "CITY"]], [[0, 1, "GOOD"], [2, 3, "CITY"]]]
    rows = [{"tokens": w, "y": s} for w, s in zip(words, spans, strict=True)]
    with pytest.raises(SchemaError, match="look like numbers of words: every end is at most the number of 'tokens'"):
        infer_schema(rows, targets={"y": task})
    characters = [{"tokens": list("安娜住在上海"), "y": [{"start": 0, "end": 2, "label": "NAME"}]}] * 3
    assert infer_schema(characters, targets={"y": "tagging"}).targets[0].task == "tagging"


def test_lists_among_the_inputs_are_histories_or_words_and_not_a_single_item() -> None:
    seen = ["['cork', 'tin']", "['tin']", "[]", "['oak', 'cork']"]
    schema = infer_schema([{"seen": s, "y": y} for s, y in zip(seen, "abab", strict=True)], targets={"y": None})
    assert schema.names("history") == ["seen"]
    assert schema.lists == {"seen": ListColumn()}
    measures = [{"seen": "[0.5, 0.25]", "text": t, "y": y} for t, y in zip(TEXTS, "abab", strict=True)]
    assert infer_schema(measures, targets={"y": None}).lists == {}


def test_tuples_and_sets_written_as_text_are_lists():
    cells = ["('oak',)", "{'oak', 'elm'}", "('elm', 'ash')", "['ash']"]
    rows = [{"text": f"a tree {i}", "kinds": cells[i % 4]} for i in range(40)]
    schema = infer_schema(rows, targets={"kinds": None})
    assert schema.lists["kinds"].read("('elm', 'ash')") == ["elm", "ash"]
    assert read_list("(12)") is None
    assert read_list("(1, 2)") is None


@pytest.mark.parametrize("mark", [";", "|", ","])
def test_labels_that_look_like_several_are_told_and_read_so_where_it_is_said(mark):
    cells = ["oak", f"oak{mark}elm", "elm", f"elm{mark}ash"]
    rows = [{"text": f"a tree {i}", "kinds": cells[i % 4]} for i in range(40)]
    schema = infer_schema(rows, targets={"kinds": None})
    assert not schema.lists
    (told,) = [m for m in schema.messages if "its parts are others" in m]
    assert f"'oak{mark}elm' is read as one label" in told
    assert "tasks.kinds.multi_label=true" in told
    schema = infer_schema(rows, targets={"kinds": None}, options={"kinds": {"multi_label": True}})
    assert schema.lists["kinds"].read(f"elm{mark}ash") == ["elm", "ash"]


def test_a_few_lists_among_labels_are_told():
    rows = [{"text": f"a tree {i}", "kind": "['oak']" if i % 5 == 0 else "elm"} for i in range(40)]
    assert any("\"['oak']\" is read as one label" in m for m in infer_schema(rows, targets={"kind": None}).messages)
