"""What the page Ask computes: the columns of a form, the parts of an answer, the address, the request in code."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from film_models import film_rows
from polydetr.inference.service import ServiceModel
from polydetr.serving.contract import Ask, ModelInfo, Reply, Row
from polydetr.serving.describe import answer_schemas, column_schemas, example_row
from polydetr.serving.parcels import Parcel, ServedModel
from polydetr.serving.request_code import curl_line, python_lines
from polydetr.studio.address import MOST, Asked
from polydetr.studio.answer_parts import (
    BoxesPart,
    ClassPart,
    ImagePart,
    NumberPart,
    PassagePart,
    PlainPart,
    SpansPart,
    VectorPart,
    parts_of,
    sure_of,
    text_of,
)
from polydetr.studio.answer_view import labels_to_explain
from polydetr.studio.examples import MOST as MOST_EXAMPLES
from polydetr.studio.examples import examples_of
from polydetr.studio.handed_rows import Handed, HandedRows
from polydetr.studio.row_fields import FEW, MOST_NAMES, fields_of, learned_columns
from polydetr.studio.why_view import column_bars, verdict, weighed
from polydetr.studio.withholding import least_of
from polydetr.web.words import Words


@pytest.fixture(scope="module")
def served(several_folder: Path) -> ServedModel:
    return ServedModel(1, ServiceModel.load(several_folder))


@pytest.fixture(scope="module")
def info(served: ServedModel, several_folder: Path) -> ModelInfo:
    model = served.model
    return ModelInfo(
        "films", "v1", model.info, column_schemas(model), answer_schemas(model), "torch fp32",
        example=example_row(model), folder=str(several_folder),
    )  # fmt: skip


def answered(served: ServedModel, row: Row, ask: Ask) -> Reply:
    parcel = Parcel.read([row], id=1, request=1, served=served, ask=ask, first=1, deadline=1e12)
    parcel.compute_alone()
    if ask.explain:
        parcel.explain(0)
    [reply] = parcel.replies
    assert reply is not None
    return reply


def made_up(task: str, schema: dict[str, Any], inputs: dict[str, str], **state: Any) -> ModelInfo:
    """A model of one target "y", as its folder would describe it."""
    described = {
        "schema": {
            "inputs": [{"name": n, "modality": m} for n, m in inputs.items()],
            "targets": [{"name": "y", "task": task}],
        },
        "tasks": {"y": state},
    }
    return ModelInfo("m", "v", described, {name: {} for name in inputs}, {"y": {**schema, "x-task": task}}, "onnx fp32")


# -- the form ---------------------------------------------------------------------------------------------------------


def test_the_form_knows_what_the_model_was_trained_on(info: ModelInfo, several_folder: Path) -> None:
    text, minutes = fields_of(info, learned_columns(several_folder))
    assert (text.name, text.kind) == ("text", "text")
    assert (minutes.kind, minutes.low, minutes.high) == ("number", 80.0, 109.0)


def test_a_form_without_the_tables_has_no_ranges(info: ModelInfo, tmp_path: Path) -> None:
    (tmp_path / "table.json").write_text("[{]")
    _, minutes = fields_of(info, learned_columns(tmp_path))
    assert (minutes.kind, minutes.low) == ("number", None)


def test_categories_dates_images_and_histories() -> None:
    info = made_up(
        "regression", {}, {"tint": "category", "sold": "date", "photo": "image", "bought": "history", "z": "odd"}
    )
    image = {"type": "string", "contentMediaType": "image/*"}
    item = {"anyOf": [{"type": "object", "properties": {"name": {}, "price": {}}}, {"type": "string"}]}
    columns = {
        "photo": {"anyOf": [image, {"type": "array", "items": image}, {"type": "null"}]},
        "bought": {"anyOf": [{"type": "array", "items": item}, item]}, "tint": {"examples": ["a"]}, "sold": {}, "z": {},
    }  # fmt: skip
    described = {
        **info.description,
        "modalities": {
            "history": {"item_fields": [["name", "text"], ["price", "number"]], "config": {"max_items": 20}}
        },
    }
    learned = {
        "tint": {"names": ["blue", "red"]}, "sold": {"scale": {"low": 2023.0, "high": 2024.9}},
        "history/price": {"scale": {"low": 1.5, "high": 5.5}},
    }  # fmt: skip
    tint, sold, photo, bought, odd = fields_of(replace(info, columns=columns, description=described), learned)
    assert (list(tint.names), tint.total) == (["blue", "red"], 2)
    assert (sold.kind, sold.low) == ("date", 2023.0)
    assert photo.several
    assert odd.kind == "json"
    assert [(one.name, one.kind, one.high) for one in bought.fields] == [
        ("name", "text", None),
        ("price", "number", 5.5),
    ]
    assert bought.most == 20


def test_of_very_many_names_a_page_is_sent_some() -> None:
    info = made_up("regression", {}, {"a": "category", "b": "category"})
    names = [f"name {i}" for i in range(MOST_NAMES - 10)]
    a, b = fields_of(info, {"a": {"names": names}, "b": {"names": names}})
    assert (len(a.names), len(b.names), b.total) == (MOST_NAMES - 10, FEW, MOST_NAMES - 10)


def test_examples_are_rows_that_the_folder_keeps_and_the_typical_one(info: ModelInfo, tmp_path: Path) -> None:
    *kept, typical = examples_of(info)
    assert 0 < len(kept) <= MOST_EXAMPLES
    assert {frozenset(row) for row in (*kept, typical)} == {frozenset({"text", "minutes"})}
    assert examples_of(replace(info, folder=str(tmp_path))) == [typical]


# -- the answer -------------------------------------------------------------------------------------------------------


def test_a_real_answer_in_parts(info: ModelInfo, served: ServedModel) -> None:
    row = film_rows(1)[0] | {"minutes": 90}
    reply = answered(served, row, Ask(probabilities=True))
    label, stars, entities = parts_of(info, row, reply)
    assert isinstance(label, ClassPart)
    assert isinstance(stars, NumberPart)
    assert isinstance(entities, SpansPart)
    assert [one.name for one in label.bars if one.chosen] == list(label.labels) == [reply["prediction"]["label"]]
    assert sum(one.value for one in label.bars) == pytest.approx(1.0, abs=1e-6)
    assert sure_of(label) == reply["probability"]["label"]
    assert sure_of(entities) is None
    assert stars.value == reply["prediction"]["stars"]
    assert entities.text == row["text"]
    assert len(entities.marks) == len(reply["prediction"]["entities"])


def test_withheld_answers_name_their_threshold(info: ModelInfo, served: ServedModel) -> None:
    row = film_rows(1)[0] | {"minutes": 90}
    reply = answered(served, row, Ask(probabilities=True, min_confidence=1.0))
    least = least_of(info, min_confidence=1.0, accuracy=None)
    label = parts_of(info, row, reply, least=least)[0]
    assert label.abstained
    assert label.least == 1.0
    assert label.threshold == 1.0  # type: ignore[attr-defined]
    assert set(least) == {t for t, p in reply["prediction"].items() if info.answers[t]["x-task"] != "regression"}


def test_the_threshold_of_an_accuracy_is_the_models(info: ModelInfo, served: ServedModel) -> None:
    from polydetr.inference.options import Options, least_probabilities

    expected = least_probabilities(served.model.engine, Options(accuracy=0.9))
    assert least_of(info, min_confidence=None, accuracy=0.9) == expected
    expected = least_probabilities(served.model.engine, Options(accuracy=0.9, min_confidence=0.3))
    assert least_of(info, min_confidence=0.3, accuracy=0.9) == expected


def test_several_labels_have_the_threshold_of_the_model() -> None:
    info = made_up(
        "classification", {"type": "array", "items": {"enum": ["a", "b", "c"]}}, {"text": "text"}, threshold=0.4
    )
    reply = {
        "prediction": {"y": ["b", "a"]},
        "probability": {"y": 0.6},
        "probabilities": {"y": {"a": 0.5, "b": 0.9, "c": 0.1}},
    }
    [part] = parts_of(info, {"text": "x"}, reply)
    assert isinstance(part, ClassPart)
    assert (part.threshold, [one.name for one in part.bars], part.several) == (0.4, ["b", "a", "c"], True)


def test_of_five_thousand_labels_the_likely_ones_are_shown() -> None:
    labels = [f"label {i}" for i in range(5000)]
    info = made_up("classification", {"enum": labels}, {"text": "text"})
    reply = {
        "prediction": {"y": "label 7"},
        "probability": {"y": 0.5},
        "probabilities": {"y": {n: 0.5 if n == "label 7" else 1e-4 for n in labels}},
    }
    [part] = parts_of(info, {"text": "x"}, reply)
    assert isinstance(part, ClassPart)
    assert part.bars[0].name == "label 7"
    assert len(part.bars) == 8
    assert part.others == 4992


def test_spans_stand_in_the_text_whose_characters_they_count() -> None:
    info = made_up("qa", {}, {"question": "text", "context": "text"})
    row = {"question": "Who?", "context": "Kari sings."}
    reply = {"prediction": {"y": {"text": "Kari", "start": 0, "end": 4}}, "probability": {"y": 0.8}}
    [part] = parts_of(info, row, reply)
    assert isinstance(part, PassagePart)
    assert (part.column, part.answer, part.marks[0].end) == ("context", "Kari", 4)
    assert text_of(info, row, [{"start": 0, "end": 3, "text": "Who"}])[0] == "question"
    [none] = parts_of(
        info, row, {"prediction": {"y": {"text": "", "start": None, "end": None}}, "probability": {"y": 0.1}}
    )
    assert isinstance(none, PassagePart)
    assert none.answer is None
    assert not none.marks


def test_boxes_images_vectors_and_what_nobody_knows() -> None:
    box = {"box": [1, 2, 3, 4], "label": "pear", "score": 0.3, "probability": 0.7, "abstained": True}
    [part] = parts_of(
        made_up("detection", {"items": {"enum": ["pear"]}}, {"photo": "image"}),
        {"photo": b"img"},
        {"prediction": {"y": [box]}},
    )
    assert isinstance(part, BoxesPart)
    assert part.image == b"img"
    assert part.boxes[0].score == 0.7
    assert part.boxes[0].weak
    [part] = parts_of(made_up("generation", {}, {"a": "text"}), {}, {"prediction": {"y": "data:image/png;base64,AA"}})
    assert isinstance(part, ImagePart)
    assert part.source
    [part] = parts_of(made_up("generation", {}, {"a": "text"}), {}, {"prediction": {"y": "javascript:alert(1)"}})
    assert isinstance(part, ImagePart)
    assert part.source is None
    [part] = parts_of(made_up("embedding", {}, {"a": "text"}), {}, {"prediction": {"y": [0.6, 0.8]}})
    assert isinstance(part, VectorPart)
    assert list(part.numbers) == [0.6, 0.8]
    [part] = parts_of(made_up("of an outside package", {}, {"a": "text"}), {}, {"prediction": {"y": {"x": 1}}})
    assert isinstance(part, PlainPart)
    assert part.value == {"x": 1}


def test_why_is_told_in_both_languages(info: ModelInfo, served: ServedModel) -> None:
    row = film_rows(1)[0] | {"minutes": 90}
    found = answered(served, row, Ask(explain=True, target="label"))["explanation"]
    bars = column_bars(found)
    assert {one.name for one in bars} == {"text", "minutes"}
    assert abs(bars[0].value) >= abs(bars[1].value)
    words = weighed([{**word, "score": i - 4.0} for i, word in enumerate(found["words"])], largest=4.0)
    assert "".join(w.before + w.text for w in words) == row["text"]
    assert words[0].weight == -1.0
    said = {language: verdict(Words(language), found) for language in ("en", "zh")}
    assert said["en"] != said["zh"]
    assert "{" not in said["en"] + said["zh"]
    parts = parts_of(info, row, answered(served, row, Ask(probabilities=True)))
    assert set(labels_to_explain(parts[0])) == {"good", "bad"}


# -- the address, the request, the handover ---------------------------------------------------------------------------


def test_a_row_stands_in_the_address_and_is_read_from_it() -> None:
    asked = Asked({"text": "你好 <b> & ?"}, least=0.7)
    query = asked.query(["text"])
    assert "%3Cb%3E" in query
    from urllib.parse import parse_qsl

    assert Asked.of(dict(parse_qsl(query)), ["text"]) == asked
    several = Asked({"a": "x", "b": 3}, seed=4)
    assert Asked.of(dict(parse_qsl(several.query(["a", "b"]))), ["a", "b"]) == several


@pytest.mark.parametrize(
    "row", [{"text": "x" * (MOST + 1)}, {"text": b"image"}, {"text": "a", "photo": b"image"}, {}, {"text": None}]
)
def test_a_long_row_and_an_image_stand_in_no_address(row: dict[str, Any]) -> None:
    assert Asked(row).query(["text", "photo"] if "photo" in row else ["text"]) == ""


@pytest.mark.parametrize(
    "query",
    [{"least": "nan"}, {"least": "2"}, {"seed": "-1"}, {"seed": "9" * 30}, {"row": "["}, {"row": "[" * 4000},
     {"row": "[1]"}, {"row": '{"x": 1}'}],
)  # fmt: skip
def test_what_a_link_says_wrongly_is_left_out(query: dict[str, str]) -> None:
    assert Asked.of(query, ["text"]) == Asked()


def test_the_request_as_others_send_it() -> None:
    row = {"text": "it's $5", "n": 2}
    line = curl_line("https://x.org/api", "m n", row, with_key=True, options={"min_confidence": 0.7})
    words = shlex.split(line)
    assert words[2] == "https://x.org/api/v1/models/m%20n/predict?min_confidence=0.7"
    assert json.loads(words[-1]) == {"rows": [row]}
    assert "Authorization: Bearer KEY" in words
    code = python_lines("https://x.org/api", "m", {**row, "photo": b"1"}, with_key=False, options={"seed": 3})
    compile(code, "lines", "exec")
    assert 'Path("FILE")' in code
    assert "seed=3" in code
    assert "KEY" not in code
    assert "photos=@FILE" in curl_line("http://h", "m", {"photos": [b"1", b"2"]}, with_key=False)


def test_a_handed_row_is_found_for_a_while() -> None:
    now = [0.0]
    handover = HandedRows(count=2, age_s=10, now=lambda: now[0])
    rows = [Handed("m", "v", {"text": str(i)}, {"row": 1}) for i in range(3)]
    names = [handover.put(one) for one in rows]
    assert handover.get(names[0], "m") is None  # the oldest has left
    assert handover.get(names[1], "m") == rows[1] == handover.get(names[1], "m")
    assert handover.get(names[1], "another model") is None
    now[0] = 9
    assert handover.get(names[1], "m") is not None  # and is held for as long again
    now[0] = 18
    assert [handover.get(name, "m") is not None for name in names] == [False, True, False]
    now[0] = 29
    assert handover.get(names[1], "m") is None
    assert len(handover) == 0


def test_handed_images_are_bounded_by_their_bytes() -> None:
    handover = HandedRows(size=1000)
    first = handover.put(Handed("m", "v", {"photo": b"1" * 600}, {}))
    second = handover.put(Handed("m", "v", {"photo": b"2" * 600}, {}))
    assert handover.get(first, "m") is None
    assert handover.get(second, "m") is not None
    assert len(handover) == 1
