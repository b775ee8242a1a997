"""Which column is what: inference, declarations, and the messages when they do not fit."""

import json

import pytest

from polydetr.errors import SchemaError
from polydetr.schema.infer import infer_schema
from polydetr.schema.spec import FieldSpec, Schema, TargetSpec

SENTENCES = [f"the {a} fox number {i} jumps over the lazy dog" for i, a in enumerate(["red", "brown", "quick"] * 10)]


def rows(**columns):
    names = list(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def modalities(schema):
    return {f.name: f.modality for f in schema.inputs}


def test_json_round_trip():
    schema = Schema(
        (FieldSpec("text", "text"), FieldSpec("价格", "number")),
        (TargetSpec("label", "classification"),),
        ("a message",),
    )
    again = Schema.from_dict(json.loads(json.dumps(schema.to_dict())))
    assert again == schema
    assert again.messages == ("a message",)
    with pytest.raises(SchemaError, match="not a schema"):
        Schema.from_dict({"inputs": []})


def test_a_task_that_does_not_exist_is_refused():
    with pytest.raises(SchemaError, match=r"unknown task 'clasification'. Did you mean 'classification'"):
        infer_schema([{"text": "a", "label": "b"}], targets={"label": "clasification"})


def test_columns_of_a_table():
    data = rows(
        id=[str(i) for i in range(30)],
        text=SENTENCES,
        color=["red", "green", "blue"] * 10,
        price=[f"{i % 7}.5" for i in range(30)],
        code=[f"00{i % 9}" for i in range(30)],
        day=[f"2024-01-{i % 28 + 1:02d}" for i in range(30)],
        photo=[f"{i}.jpg" for i in range(30)],
        same=["x"] * 30,
        label=["a", "b"] * 15,
    )
    schema = infer_schema(data, targets={"label": None})
    assert modalities(schema) == {
        "id": "ignore", "text": "text", "color": "category", "price": "number", "code": "category", "day": "date",
        "photo": "image", "same": "ignore",
    }  # fmt: skip
    assert schema.targets == (TargetSpec("label", "classification"),)
    assert any("'same'" in n and "same value" in n for n in schema.messages)
    assert any("'id'" in n and "numbers the rows" in n for n in schema.messages)


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["yes", "no"] * 20, "classification"),
        ([0, 1] * 20, "classification"),
        (["1", "2"] * 20, "classification"),
        ([True, False] * 20, "classification"),
        ([0.25, 1.5] * 20, "regression"),
        (list(range(40)), "regression"),
        ([f"{1000 * i + 0.5:,}" for i in range(39)] + ["n/a"], "regression"),
        ([f"{i / 7}" for i in range(39)] + ["lots"], "regression"),
        ([["a"], ["a", "b"]] * 20, "classification"),
        ([[{"start": 0, "end": 3, "label": "X"}], []] * 20, "tagging"),
        ([[(0, 3, "X"), (3, 5, "Y")], []] * 20, "tagging"),
        ([[(0, 8, "X"), (3, 5, "Y")], []] * 20, "entities"),
        ([[{"start": 5, "end": 9, "label": "X"}, {"start": 0, "end": 6, "label": "X"}], []] * 20, "entities"),
        ([[{"text": "the", "start": 0}], []] * 20, "qa"),
        (["yes", None, float("nan"), "no"] * 10, "classification"),
    ],
)
def test_tasks_follow_from_the_values(values, task):
    data = [{"text": f"some words {i}", "y": v} for i, v in enumerate(values)]
    assert infer_schema(data, targets={"y": None}).targets == (TargetSpec("y", task),)


def test_tokens_and_tags_make_tagging_on_the_tokens_alone():
    schema = infer_schema([{"tokens": ["a", "b"], "pos": ["X", "Y"], "tags": ["O", "B-X"]}] * 3)
    assert schema.targets == (TargetSpec("tags", "tagging"),)
    assert schema.names("text") == ["tokens"]


def test_questions_are_read_before_their_context():
    schema = infer_schema([{"context": "c d", "id": "1", "question": "q", "answers": [{"text": "c", "start": 0}]}] * 3)
    assert schema.names("text") == ["question", "context"]
    assert schema.targets == (TargetSpec("answers", "qa"),)


def test_overlapping_entities_are_a_set_and_others_are_tagged():
    spans = [{"start": 0, "end": 9, "label": "ORG"}, {"start": 5, "end": 9, "label": "LOC"}]
    schema = infer_schema([{"text": "Bank Bern", "entities": spans}])
    assert schema.targets[0].task == "entities"
    assert any("overlap in 1 of 1 rows" in n for n in schema.messages)
    beside = [{"start": 0, "end": 5, "label": "ORG"}, {"start": 5, "end": 9, "label": "LOC"}]
    assert infer_schema([{"text": "Bank Bern", "entities": beside}]).targets[0].task == "tagging"


@pytest.mark.parametrize(
    "slip",
    [["B-PER", "O"], [{"start": None, "end": 4, "label": "A"}], [["a", 4, "A"]], [{"start": float("inf"), "end": 1}]],
)
def test_one_row_of_spans_with_a_slip_does_not_decide_the_task(slip):
    spans = [{"start": 0, "end": 4, "label": "LOC"}]
    data = [{"text": f"Bern {i} lies on the Aare", "entities": spans} for i in range(9)]
    assert infer_schema([*data, {**data[0], "entities": [*spans, *slip]}]).targets[0].task == "tagging"


def test_spans_whose_offsets_are_written_as_text_are_in_order():
    spans = [{"start": "1", "end": "9", "label": "ORG"}, {"start": "10", "end": "12", "label": "LOC"}]
    assert infer_schema([{"text": "a bank, in Bern", "entities": spans}]).targets[0].task == "tagging"


def test_entities_beside_objects_read_the_image_too():
    spans = [{"start": 0, "end": 9, "label": "ORG"}, {"start": 5, "end": 9, "label": "LOC"}]
    row = {
        "text": "Bank Bern",
        "photo": "a.jpg",
        "price": 3.5,
        "entities": spans,
        "objects": [{"box": [0, 0, 1, 1], "label": "x"}],
    }
    schema = infer_schema([row], targets={"entities": None, "objects": None})
    assert modalities(schema) == {"text": "text", "photo": "image", "price": "ignore"}
    assert modalities(infer_schema([row], targets={"entities": None}))["photo"] == "ignore"


def test_a_column_that_gives_the_answer_away_is_left_out():
    data = rows(text=SENTENCES, label=["1", "2", "3"] * 10, label_name=["one", "two", "three"] * 10)
    schema = infer_schema(data, targets={"label": None})
    assert modalities(schema)["label_name"] == "ignore"
    assert any("gives the answer away" in n for n in schema.messages)


def test_short_texts_are_still_text_when_there_is_no_other():
    schema = infer_schema([{"word": w, "y": c} for w, c in [("hi", "a"), ("bye", "b")] * 40])
    assert schema.names("text") == ["word"]


def test_misspelt_columns_are_suggested_and_listed():
    with pytest.raises(
        SchemaError, match=r"no column 'lable'; the columns are 'text', 'label'. Did you mean 'label'\?"
    ):
        infer_schema([{"text": "a", "label": "b"}], targets={"lable": None})
    with pytest.raises(SchemaError, match=r"no column 'txt'.*Did you mean 'text'\?"):
        infer_schema([{"text": "a", "label": "b"}], targets={"label": None}, inputs={"txt": "text"})
    with pytest.raises(SchemaError, match=r"unknown modality 'txt'. Did you mean 'text'\?"):
        infer_schema([{"text": "a", "label": "b"}], targets={"label": None}, inputs={"text": "txt"})


def test_declared_inputs_are_the_only_ones_and_are_never_dropped():
    data = rows(a=SENTENCES, b=SENTENCES, c=["x"] * 30, label=["p", "q"] * 15)
    schema = infer_schema(data, targets={"label": None}, inputs={"c": None, "a": None})
    assert modalities(schema) == {"c": "text", "a": "text"}


def test_the_rest_of_the_columns_is_read_beside_declared_ones():
    data = rows(a=SENTENCES, code=[str(i) for i in range(30)], x=[i / 7 for i in range(30)], label=["p", "q"] * 15)
    schema = infer_schema(data, targets={"label": None}, inputs={"code": "category", "*": None})
    assert modalities(schema) == {"a": "text", "code": "category", "x": "number"}
    schema = infer_schema(data, targets={"label": None}, inputs={"x": "ignore"})
    assert modalities(schema) == {"a": "text", "code": "number", "x": "ignore"}
    assert not any("'x' is left out" in note for note in schema.messages)


@pytest.mark.parametrize(
    ("values", "modality"),
    [
        (["1,234", "n/a", "17"] * 20, "number"),
        (["$12.50", "NA", "$7"] * 20, "number"),
        ([f"{i},5" for i in range(40)], "number"),  # decimals with a comma, each cell another
        ([*map(str, range(57)), "many", "few", "some"], "number"),  # the three are named when they are read
        (["few", "many", "3", "4"] * 20, "category"),
        (["true", "false"] * 20, "category"),
        (["0049", "1200"] * 20, "category"),
        (["n/a"] * 20, "ignore"),
        (["31.12.2024", "n/a", "1.2.2023"] * 20, "date"),
        (["31/12/2024", "n/a", "1/2/2023"] * 20, "date"),
        (["Jan 5, 2024", "Feb 6, 2023"] * 20, "date"),
        (["2024-01-31 10:00", "2023-02-01"] * 20, "date"),
    ],
)
def test_modalities_follow_from_how_most_cells_are_written(values, modality):
    data = [{"text": SENTENCES[i % 30], "x": v, "y": "pq"[i // 2 % 2]} for i, v in enumerate(values)]
    assert modalities(infer_schema(data, targets={"y": None}))["x"] == modality


@pytest.mark.parametrize(
    ("data", "targets", "message"),
    [
        ([], {"y": None}, "no rows"),
        ([{"text": "a", "y": None}] * 3, {"y": None}, "missing in every row"),
        ([{"text": "a"}] * 3, None, "no target was named.*--target"),
        ([{"y": "a"}, {"y": "b"}], {"y": None}, "no column is left to predict 'y' from. Add a column"),
        ([{"y": "ab"[i % 2], "x": {"a": i}} for i in range(9)], {"y": None}, "it holds objects. Add a column"),
        (
            [{"t": "x", "y": {"bbox": [[1, 2, 3, 4]], "category": ["a"]}}] * 9,
            {"y": None},
            r'or its width and height. Write a list per row, of {"box": \[left, top',
        ),
        (
            [{"text": "a", "y": f"a sentence {i}"} for i in range(60)],
            {"y": None},
            "text rather than classes.*y:classification",
        ),
    ],
)
def test_what_cannot_be_learned_says_why(data, targets, message):
    with pytest.raises(SchemaError, match=message):
        infer_schema(data, targets=targets)


def test_objects_are_looked_for_in_the_image_though_its_identifier_is_a_path_too():
    table = rows(
        image=[f"/images/{i}.png" for i in range(4)], image_id=[f"images/{i}.png" for i in range(4)],
        objects=[[{"box": [1, 2, 3, 4], "label": "mug"}]] * 4,
    )  # fmt: skip
    schema = infer_schema(table, targets={"objects": None})
    assert modalities(schema) == {"image": "image", "image_id": "ignore"}
    assert [(t.name, t.task) for t in schema.targets] == [("objects", "detection")]
    assert any("image_id" in note and "reads the image alone" in note for note in schema.messages)
    del table[0]["image"], table[1]["image"], table[2]["image"], table[3]["image"]
    assert modalities(infer_schema(table, targets={"objects": None})) == {"image_id": "image"}


def test_labels_that_differ_in_case_alone_are_told():
    rows = [{"text": f"note {i}", "y": ("Ja", "ja", "JA ", "nein")[i % 4]} for i in range(80)]
    (told,) = [m for m in infer_schema(rows, targets={"y": None}).messages if "case or blanks" in m]
    assert "'JA', 'Ja', 'ja' are classes of their own" in told
    rows = [{"text": f"note {i}", "y": ("TRUE", "true", True)[i % 3]} for i in range(80)]
    assert not any("case or blanks" in m for m in infer_schema(rows, targets={"y": None}).messages)


def test_marked_texts_without_offsets_are_no_answers():
    rows = [{"text": f"in Oslo {i}", "marks": [{"begin": 3, "finish": 7, "label": "CITY", "text": "Oslo"}]}
            for i in range(9)]  # fmt: skip
    with pytest.raises(SchemaError, match=r"holds lists of .*Expected .*\{start, end, label\} \(spans\)"):
        infer_schema(rows, targets={"marks": None})
