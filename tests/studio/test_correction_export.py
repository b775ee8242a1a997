"""Corrections as files of training rows, each read again by our own readers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
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
    corrections_of,
    image_bytes,
    model_info,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polydetr.core.reading import ExpectedColumns
from polydetr.data.inspect import inspect_data
from polydetr.data.readers import read_records
from polydetr.errors import InputError
from polydetr.modalities.text import as_text
from polydetr.serving.contract import ModelInfo
from polydetr.studio.correction_export import export_corrections
from polydetr.values.formulas import formula_in, without_formula
from polydetr.values.spans import Span
from polydetr.values.tags import iob2_to_word_spans

TEXT = "Ada met Ben, in London"
POS = [{"start": 0, "end": 4, "label": "NOUN"}, {"start": 5, "end": 8, "label": "VERB"}]
SPANS = [
    {"start": 0, "end": 3, "label": "PER", "text": "Ada"},
    {"start": 16, "end": 22, "label": "LOC", "text": "London"},
]


def written(info: ModelInfo, pairs: list[tuple[dict[str, Any], Any]], out: Path, **how: Any) -> list[dict[str, Any]]:
    """What our reader makes of the file."""
    export_corrections(corrections_of(info, pairs), out, **how)
    schema = info.description["schema"]
    expected = ExpectedColumns(*(tuple(one["name"] for one in schema[part]) for part in ("inputs", "targets")))
    return [dict(record.row) for record in read_records(out, expected=expected)]


CASES: list[tuple[ModelInfo, list[tuple[dict[str, Any], Any]], list[dict[str, Any]]]] = [
    (CLASSES, [({"text": "=cmd, \"so\"\nit\r\ngoes"}, "good"), ({"text": ""}, "bad")],
     [{"text": "=cmd, \"so\"\nit\r\ngoes", "label": "good"}, {"text": "", "label": "bad"}]),
    (SEVERAL, [({"text": "a"}, ["film", "art"]), ({"text": "b"}, [])],
     [{"text": "a", "topics": ["art", "film"]}, {"text": "b", "topics": []}]),
    (NUMBER, [({"text": "a", "minutes": 90}, 4.5)], [{"text": "a", "minutes": 90, "stars": 4.5}]),
    (TAGS, [({"text": TEXT}, SPANS)], [{"text": TEXT, "tags": SPANS}]),
    (PARTS, [({"text": "dogs run"}, POS)],
     [{"text": "dogs run", "pos": ["NOUN", "VERB"]}]),
    (QUESTIONS, [({"question": "who?", "context": TEXT}, "Ben"), ({"question": "why?", "context": TEXT}, None)],
     [{"question": "who?", "context": TEXT, "answers": [{"text": "Ben", "start": 8}]},
      {"question": "why?", "context": TEXT, "answers": []}]),
]  # fmt: skip


@pytest.mark.parametrize(("info", "pairs", "rows"), CASES)
def test_json_lines_give_the_same_rows(
    info: ModelInfo, pairs: list[tuple[dict[str, Any], Any]], rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    assert written(info, pairs, tmp_path / "rows.jsonl") == rows
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl"]


@pytest.mark.parametrize(("info", "pairs", "rows"), CASES)
def test_csv_gives_the_same_rows_as_text(
    info: ModelInfo, pairs: list[tuple[dict[str, Any], Any]], rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    def as_text(value: Any) -> Any:
        return without_formula(value) if isinstance(value, str) else json.loads(json.dumps(value))

    found = written(info, pairs, tmp_path / "rows.csv")
    for read, row in zip(found, rows, strict=True):
        assert read.keys() == row.keys()
        assert {n: v if isinstance(row[n], str) else json.loads(v) for n, v in read.items()} == {
            n: as_text(v) for n, v in row.items()
        }


def test_a_formula_gets_an_apostrophe_in_csv_alone_and_its_spans_move_along(tmp_path: Path) -> None:
    row = {"text": "@Ada met Ben"}
    spans = [{"start": 1, "end": 4, "label": "PER", "text": "Ada"}]
    assert written(TAGS, [(row, spans)], tmp_path / "rows.jsonl") == [{**row, "tags": spans}]
    exported = export_corrections(corrections_of(TAGS, [(row, spans)]), tmp_path / "rows.csv")
    assert exported.messages == (
        "an apostrophe was put before 1 cell that a spreadsheet might run; JSON lines need none",
    )
    (read,) = written(TAGS, [(row, spans)], tmp_path / "rows.csv")
    (span,) = json.loads(read["tags"])
    assert read["text"] == "'@Ada met Ben"
    assert read["text"][span["start"] : span["end"]] == "Ada"
    assert formula_in(read["text"]) == row["text"]
    assert formula_in("'tis") == "'tis"


def test_conll_holds_words_and_their_tags(tmp_path: Path) -> None:
    tokens = {"tokens": ["New", "York", "北", "京"]}
    spans = [{"start": 0, "end": 8, "label": "LOC"}, {"start": 9, "end": 11, "label": "LOC"}]
    found = written(TOKENS, [(tokens, spans), ({"tokens": ["#", "Ada"]}, [{"start": 2, "end": 5, "label": "PER"}])],
                    tmp_path / "rows.conll")  # fmt: skip
    assert found == [
        {**tokens, "tags": ["B-LOC", "I-LOC", "B-LOC", "I-LOC"]},
        {"tokens": ["#", "Ada"], "tags": ["O", "B-PER"]},
    ]
    exported = export_corrections(corrections_of(TAGS, [({"text": TEXT}, SPANS)]), tmp_path / "text.conll")
    assert exported.messages == ("CoNLL calls the column 'text' 'tokens'",)
    (row,) = written(PARTS, [({"text": "dogs run"}, POS)], tmp_path / "pos.conll")
    assert row == {"tokens": ["dogs", "run"], "pos": ["NOUN", "VERB"]}


def test_coco_holds_boxes_with_their_images_beside(tmp_path: Path) -> None:
    first, second = image_bytes(32, 24), image_bytes(20, 10, kind="JPEG")
    boxes = [{"box": [1.1, 2.3, 20.7, 10.2], "label": "dog"}, {"box": [0, 0, 32, 24], "label": "bird"}]
    rows = written(BOXES, [({"image": first}, boxes), ({"image": second}, [])], tmp_path / "rows.json")
    found = [[{"box": one["box"], "label": one["label"]} for one in row["objects"]] for row in rows]
    assert found == [[{**one, "box": [float(side) for side in one["box"]]} for one in boxes], []]
    assert [Path(row["image"]).read_bytes() for row in rows] == [first, second]
    assert [Path(row["image"]).suffix for row in rows] == [".png", ".jpg"]
    document = json.loads((tmp_path / "rows.json").read_text("utf-8"))
    assert [one["name"] for one in document["categories"]] == ["cat", "dog", "bird"]


def test_an_image_is_written_once_and_found_from_the_file(tmp_path: Path) -> None:
    info = model_info({"image": "image", "text": "text"}, label={"task": "classification", "labels": ["a", "b"]})
    same = image_bytes(8, 8)
    rows = written(
        info, [({"image": same, "text": "x"}, "a"), ({"image": same, "text": "y"}, "b")], tmp_path / "rows.jsonl"
    )
    assert len({row["image"] for row in rows}) == 1
    assert len([*(tmp_path / "rows.images").iterdir()]) == 1
    assert (tmp_path / rows[0]["image"]).read_bytes() == same


def test_several_targets_of_a_row_are_one_row(tmp_path: Path) -> None:
    info = model_info(
        {"text": "text"}, label={"task": "classification", "labels": ["a", "b"]}, stars={"task": "regression"}
    )
    both = [
        *corrections_of(info, [({"text": "x"}, "a"), ({"text": "y"}, "b")], target="label"),
        *corrections_of(info, [({"text": "x"}, 3)], target="stars"),
    ]
    exported = export_corrections(both, tmp_path / "rows.jsonl")
    assert (exported.rows, exported.corrections) == (2, 3)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text("utf-8").splitlines()]
    assert rows == [{"text": "x", "label": "a", "stars": 3}, {"text": "y", "label": "b"}]
    export_corrections(both, tmp_path / "stars.jsonl", target="stars")
    assert json.loads((tmp_path / "stars.jsonl").read_text("utf-8")) == {"text": "x", "stars": 3}


def test_who_and_when_stand_beside_and_only_where_asked_for(tmp_path: Path) -> None:
    made = corrections_of(CLASSES, [({"text": f"row {i}"}, "good" if i % 2 else "bad") for i in range(30)])
    assert export_corrections(made, tmp_path / "rows.jsonl").people is None
    exported = export_corrections(made, tmp_path / "asked.jsonl", people=True)
    assert exported.people == tmp_path / "asked.people.jsonl"
    lines = [json.loads(line) for line in (tmp_path / "asked.people.jsonl").read_text("utf-8").splitlines()]
    assert lines[4]["row"] == 5
    assert lines[4]["person"] == "Ada"
    assert lines[4]["at"].startswith("2026-11-29T12:00:04")
    for name in ("rows.jsonl", "asked.jsonl"):
        found = inspect_data(tmp_path / name).to_dict()
        inputs = {one["name"] for one in found["schema"]["inputs"] if one["modality"] != "ignore"}
        assert inputs == {"text"}
        assert "Ada" not in (tmp_path / name).read_text("utf-8")


@pytest.mark.parametrize(("info", "pairs", "name", "said"), [
    (CLASSES, [], "rows.jsonl", "there are no corrections to write"),
    (CLASSES, [({"text": "a"}, "good")], "rows.xml", "'rows.xml' is no name of a file of corrections"),
    (CLASSES, [({"text": "a"}, "good")], "rows.conll", "CoNLL holds spans of words of one target; corrected were"),
    (CLASSES, [({"text": "a"}, "good")], "rows.json", "COCO holds boxes of one target; corrected were label"),
    (TAGS, [({"text": "a"}, []), ({"text": ""}, [])], "rows.conll", "row 2: a row without a word"),
    (TOKENS, [({"tokens": ["a b\tc", "d"]}, [])], "rows.conll", "JSON lines hold any row"),
    (ENTITIES, [({"title": "", "text": "Bank of England"}, [{"start": 0, "end": 15, "label": "LOC"},
      {"start": 8, "end": 15, "label": "LOC"}])], "rows.conll", "cannot hold ['Bank of England', 'England']"),
])  # fmt: skip
def test_what_a_file_cannot_hold_is_refused_and_leaves_nothing(
    info: ModelInfo, pairs: list[tuple[dict[str, Any], Any]], name: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("as it was", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        export_corrections(corrections_of(info, pairs), tmp_path / name)
    assert said in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text("utf-8") == "as it was"


# -- any text ---------------------------------------------------------------------------------------------------------

ODD = "שלום עربي \u200b\u200d\u202e\r\n\t=cmd|'@+-,;\"\\{}[] 𝒳👩\u200d👧é北京\u2028\x85\x1f\0#"
TEXTS = st.text(st.sampled_from(ODD) | st.characters(exclude_categories=["Cs"]), max_size=30)


def unless_refused(write: Callable[[], Any]) -> Any:
    """None where the format cannot hold the row, which is told, with one that can."""
    try:
        return write()
    except InputError as error:
        told = str(error)
    assert "JSON lines hold any row" in told
    return None


ANY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


@ANY
@given(texts=st.lists(TEXTS, min_size=1, max_size=4, unique=True), label=st.sampled_from(["good", "=so", "a,b", "לא"]))
def test_any_text_comes_back_from_json_lines_and_csv(texts: list[str], label: str, tmp_path: Path) -> None:
    pairs = [({"text": text}, label) for text in texts]
    assert written(CLASSES, pairs, tmp_path / "rows.jsonl") == [{"text": text, "label": label} for text in texts]
    read = unless_refused(lambda: written(CLASSES, pairs, tmp_path / "rows.csv"))
    assert read is None or read == [{"text": without_formula(text), "label": without_formula(label)} for text in texts]


@ANY
@given(data=st.data(), text=TEXTS.filter(lambda text: bool(as_text(text, field="").words)))
def test_any_words_come_back_from_conll(data: st.DataObject, text: str, tmp_path: Path) -> None:
    words = as_text(text, field="text").words
    chosen = data.draw(st.lists(st.sampled_from(range(len(words))), unique=True, max_size=3))
    spans = [{"start": words[i][0], "end": words[i][1], "label": "PER"} for i in sorted(chosen)]
    rows = unless_refused(lambda: written(TAGS, [({"text": text}, spans)], tmp_path / "rows.conll"))
    if rows is None:
        return
    (row,) = rows
    assert row["tokens"] == [text[a:b] for a, b in words]
    found = {Span(words[a][0], words[b - 1][1], label).key for a, b, label in iob2_to_word_spans(row["tags"])}
    assert found == {(one["start"], one["end"], "PER") for one in spans}


SIDE = st.floats(0, 32, width=32) | st.integers(0, 32)


@ANY
@given(corners=st.lists(st.tuples(SIDE, SIDE, SIDE, SIDE), max_size=4))
def test_any_boxes_come_back_from_coco(corners: list[tuple[float, ...]], tmp_path: Path) -> None:
    boxes = [{"box": list(box), "label": "cat"} for box in corners if box[0] != box[2] and box[1] != box[3]]
    made = corrections_of(BOXES, [({"image": image_bytes(32, 32)}, boxes)])
    if unless_refused(lambda: export_corrections(made, tmp_path / "rows.json")) is None:
        return
    (record,) = read_records(tmp_path / "rows.json")
    assert [{"box": one["box"], "label": one["label"]} for one in record.row["objects"]] == made[0].value
    assert Path(record.row["image"]).read_bytes() == image_bytes(32, 32)
