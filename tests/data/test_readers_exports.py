"""Prodigy's and doccano's JSON lines, spaCy's DocBin, and the names of Hugging Face's numbers."""

import base64
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from box_images import draw, rows, skipped

from polydetr.data.readers import ReadReport, read_records
from polydetr.data.readers.class_names import NAMED, UNNAMED
from polydetr.data.readers.exports import REJECTED
from polydetr.errors import DataFileError, RowError


@pytest.fixture
def lines(tmp_path):
    def _lines(*entries):
        path = tmp_path / "export.jsonl"
        path.write_text("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries), encoding="utf-8")
        return path

    return _lines


# -- Prodigy ----------------------------------------------------------------------------------------------------------

HASHES = {"_input_hash": 1, "_task_hash": 2, "_session_id": None, "_view_id": "ner_manual"}


def prodigy(text, *spans, answer="accept", **more):
    tokens = [{"text": text, "start": 0, "end": len(text), "id": 0, "ws": False}]
    return {"text": text, "tokens": tokens, "spans": list(spans), "answer": answer, **HASHES, **more}


def test_spans_of_prodigy(lines):
    first = prodigy("Ann ran", {"start": 0, "end": 3, "label": "PER", "token_start": 0, "token_end": 0})
    assert rows(lines(first, prodigy("It ran"))) == [
        {"text": "Ann ran", "entities": [{"start": 0, "end": 3, "label": "PER"}]},
        {"text": "It ran", "entities": []},
    ]


def test_answers_that_were_not_accepted_are_left_out_and_told(lines):
    report = ReadReport()
    path = lines(prodigy("a"), prodigy("b", answer="reject"), prodigy("c", answer="ignore"))
    assert [row["text"] for row in rows(path, report=report)] == ["a"]
    assert (report.rows, report.problems) == (1, {REJECTED: 2})


def test_choices_of_prodigy(lines):
    options = [{"id": "good", "text": "Good"}, {"id": "bad", "text": "Bad"}]
    one = {"text": "a", "options": options, "accept": ["bad"], "answer": "accept", "config": {"choice_style": "single"}}
    several = {"text": "b", "options": options, "accept": ["bad", "good"], "answer": "accept"}
    assert rows(lines(one, several)) == [{"text": "a", "label": "bad"}, {"text": "b", "label": ["bad", "good"]}]
    binary = {"text": "c", "label": "good", "spans": [], "answer": "accept", **HASHES}
    assert rows(lines(binary)) == [{"text": "c", "label": "good"}]


def test_images_of_prodigy(lines, tmp_path):
    file = draw(tmp_path / "a.png")
    shapes = [
        {
            "label": "cup",
            "type": "rect",
            "x": 1,
            "y": 2,
            "width": 3,
            "height": 4,
            "points": [[1, 2], [1, 6], [4, 6], [4, 2]],
        },
        {"label": "leaf", "type": "polygon", "points": [[1, 2], [5, 9], [3, 3]]},
    ]
    written = "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()
    path = lines(*({"image": name, "spans": shapes, "answer": "accept"} for name in ("a.png", written)))
    found = rows(path)
    assert [o["box"] for o in found[0]["objects"]] == [[1, 2, 4, 6], [1, 2, 5, 9]]
    assert found[1]["image"] == file.read_bytes()
    with pytest.raises(RowError, match="has neither x, y, width, height nor points"):
        rows(lines({"image": "a.png", "spans": [{"label": "cup"}], "answer": "accept"}))


def test_rows_in_memory_are_answered_whatever_their_answer():
    row = {"text": "a", "answer": "reject", "spans": []}
    assert [dict(r.row) for r in read_records([row])] == [row]


def test_rows_that_merely_have_an_answer_pass(lines):
    row = {"question": "ready?", "answer": "accept"}
    assert rows(lines(row)) == [row]


# -- doccano ----------------------------------------------------------------------------------------------------------


def test_sequences_of_doccano(lines):
    from polydetr.schema.infer import infer_schema

    plain = {"id": 1, "text": "Ann met Bo", "label": [[0, 3, "PER"], [8, 10, "PER"]], "Comments": []}
    (row,) = rows(lines(plain))
    assert row == {"id": 1, "text": "Ann met Bo", "label": [[0, 3, "PER"], [8, 10, "PER"]]}
    assert infer_schema([row], targets={"label": None}).targets[0].task == "tagging"
    related = {
        "text": "Ann met Bo", "relations": [],
        "entities": [{"id": 4, "label": "PER", "start_offset": 0, "end_offset": 3}],
    }  # fmt: skip
    assert rows(lines(related))[0]["entities"] == [{"start": 0, "end": 3, "label": "PER"}]


def test_boxes_of_doccano(lines):
    box = {"id": 2, "uuid": "u", "label": "cup", "x": 1.5, "y": 2, "width": 3, "height": 4}
    (row,) = rows(lines({"id": 1, "filename": "a.png", "bbox": [box], "Comments": []}))
    assert (row["image"], row["objects"]) == ("a.png", [{"box": [1.5, 2, 4.5, 6], "label": "cup"}])


def test_a_damaged_span_refuses_its_row_alone(lines):
    found, report = skipped(lines(prodigy("a", {"start": 0}), prodigy("b")))
    assert ([row["text"] for row in found], len(report.rejected)) == (["b"], 1)
    assert "lacks start, end or a label" in report.rejected[0].reason


def test_a_docbin_is_refused_with_what_to_do(tmp_path):
    path = tmp_path / "train.spacy"
    path.write_bytes(b"x\x9c123")
    with pytest.raises(
        DataFileError, match=r"is a DocBin of spaCy, which is not read\. Write its documents as JSON lines"
    ):
        rows(path)


# -- Hugging Face -----------------------------------------------------------------------------------------------------

FEATURES = {
    "tokens": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "Sequence"},
    "ner_tags": {"feature": {"names": ["O", "B-PER", "I-PER"], "_type": "ClassLabel"}, "_type": "Sequence"},
    "label": {"names": ["bad", "good"], "_type": "ClassLabel"},
}
CARD = """---
license: mit
dataset_info:
  features:
  - name: tokens
    sequence: string
  - name: ner_tags
    sequence:
      class_label:
        names:
          '0': O
          '1': B-PER
          '2': I-PER
  - name: label
    dtype:
      class_label:
        names: {'0': bad, '1': good}
---
# A set
"""
ROW = {"tokens": ["Ann", "ran"], "ner_tags": [1, 0], "label": 1}
NAMED_ROW = {"tokens": ["Ann", "ran"], "ner_tags": ["B-PER", "O"], "label": "good"}


def beside(folder, kind):
    files = {
        "info": ("dataset_info.json", json.dumps({"features": FEATURES})),
        "infos": ("dataset_infos.json", json.dumps({"default": {"features": FEATURES}})),
        "card": ("README.md", CARD),
    }
    name, text = files[kind]
    (folder / name).write_text(text)


@pytest.mark.parametrize("kind", ["info", "infos", "card"])
@pytest.mark.parametrize("place", [".", "data"])
@pytest.mark.parametrize("form", ["jsonl", "json", "parquet"])
def test_numbers_have_the_names_that_stand_beside(tmp_path, kind, place, form):
    beside(tmp_path, kind)
    path = tmp_path / place / f"train.{form}"
    path.parent.mkdir(exist_ok=True)
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist([ROW]), path)
    else:
        path.write_text(json.dumps([ROW] if form == "json" else ROW) + "\n")
    report = ReadReport()
    assert rows(path, report=report) == [NAMED_ROW]
    assert report.problems == {NAMED: 2}
    assert any("column 'label': 0 = bad, 1 = good" in line for line in report.examples[NAMED])


def test_numbers_of_a_csv_have_names_unless_the_names_are_numbers(tmp_path):
    beside(tmp_path, "info")
    path = tmp_path / "a.csv"
    path.write_text("text,label\nwarm,1\ncold,0\nodd,7\nnone,-1\nled, 1\ngap,1.0\n")
    report = ReadReport()
    assert [row["label"] for row in rows(path, report=report)] == ["good", "bad", "7", None, "good", "good"]
    assert report.problems[UNNAMED] == 1
    assert "column 'label': 7, of 2 numbered from 0" in report.examples[UNNAMED][0]
    stars = {"label": {"names": ["1", "2", "3"], "_type": "ClassLabel"}}
    (tmp_path / "dataset_info.json").write_text(json.dumps({"features": stars}))
    assert [row["label"] for row in rows(path)][:2] == ["1", "0"]


def test_a_parquet_file_that_has_names_of_its_own_keeps_them(tmp_path):
    own = {"label": {"names": ["1", "2"], "_type": "ClassLabel"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": own}}).encode()}
    (tmp_path / "dataset_info.json").write_text(json.dumps({"features": own}))
    pq.write_table(pa.table({"label": [0, 1]}).replace_schema_metadata(metadata), tmp_path / "a.parquet")
    assert rows(tmp_path / "a.parquet") == [{"label": "1"}, {"label": "2"}]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("README.md", "# nothing\n"),
        ("README.md", "---\ndataset_info: [\n---\n"),
        ("README.md", "---\ndataset_info: 3\n---\n"),
        ("dataset_info.json", "[" * 5000),
        ("dataset_info.json", '{"features": {"label": 3}}'),
        (
            "dataset_infos.json",
            json.dumps({name: {"features": {"label": {"names": [name]}}} for name in ("a", "b")}),
        ),
    ],
)  # fmt: skip
def test_files_that_name_no_classes_change_nothing(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    (tmp_path / "a.jsonl").write_text('{"text": "warm", "label": 0}\n')
    assert rows(tmp_path / "a.jsonl") == [{"text": "warm", "label": 0}]
