"""One odd row is one rejected row, in every reader that reads values: its neighbors come through."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from polydetr.core.records import Record
from polydetr.data.readers import ReadReport, read_records
from polydetr.errors import MESSAGE_LIMIT, DataFileError, Location, RowError

GOOD = {"text": "Ada met Bob", "label": "met"}
CONTEXT = "Bob lives in Oslo"


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


ODD: list[tuple[str, Any, str]] = [
    ("half of a character", {"text": "half \ud83d", "label": "a"}, r"half a character \(\\ud83d\)"),
    ("half in a list", {"text": ["a", {"b": "\udc00"}], "label": "a"}, r"half a character \(\\udc00\)"),
    ("half in a name", {"te\ud800xt": "a", "text": "b"}, "half a character"),
    ("lists in lists", {"text": deep(200), "label": "a"}, "within one another"),
    ("a number without end", {"text": "a", "n": [-(10**5000)]}, "thousands of digits"),
    ("no row", None, "expected"),
    ("a number", 3, "expected"),
]


@pytest.mark.parametrize("kind", ["memory", "records", "jsonl", "json"])
@pytest.mark.parametrize(("row", "message"), [case[1:] for case in ODD], ids=[case[0] for case in ODD])
def test_one_odd_row(tmp_path: Path, kind: str, row: Any, message: str) -> None:
    if kind.startswith("json") and "thousands" in message:
        pytest.skip("Python writes none, and reads none: see below")
    rows: list[Any] = [GOOD, row, GOOD]
    if kind == "records":
        if not isinstance(row, Mapping) or isinstance(row.get("label"), dict) or "answers" in row:
            pytest.skip("a Record is a row, in the layout that the tasks read")
        rows = [Record(each, Location("memory", row=n)) for n, each in enumerate(rows, 1)]
    source: Any = rows
    if kind in ("json", "jsonl"):
        source = tmp_path / f"rows.{kind}"
        text = json.dumps(rows) if kind == "json" else "".join(json.dumps(each) + "\n" for each in rows)
        source.write_text(text, encoding="utf-8")
    report = ReadReport()
    read = [dict(r.row) for r in read_records(source, on_error="skip", report=report)]
    assert read == [GOOD, GOOD]
    assert report.rows == 2
    (rejection,) = report.rejected
    assert rejection.location.row == 2
    assert len(rejection.reason) <= MESSAGE_LIMIT
    with pytest.raises(RowError, match=message):
        list(read_records(source))


def test_a_line_with_a_number_without_end(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"n": 1}}\n{{"n": {"7" * 5000}}}\n{{"n": 3}}\n', encoding="utf-8")
    assert [r.row["n"] for r in read_records(path, on_error="skip")] == [1, 3]


def test_names_of_columns_are_text() -> None:
    assert [dict(r.row) for r in read_records([{0: "a", None: 1}])] == [{"0": "a", "None": 1}]


def test_a_data_frame_has_odd_rows_too() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["a", "half \ud83d", "c"], "n": [1, 2, 3]}, dtype=object)
    report = ReadReport()
    assert [r.row["n"] for r in read_records(frame, on_error="skip", report=report)] == [1, 3]
    assert report.rejected[0].location.row == 2


@pytest.mark.parametrize(
    ("question", "paragraph"),
    [
        (None, {}),
        ("who?", {}),
        ({"id": "q"}, {}),
        ({"question": 3, "answers": []}, {}),
        ({"question": "who?", "answers": [{"text": 3, "answer_start": 0}]}, {}),
        ({"question": "who?", "answers": [{"text": "Bob", "answer_start": "zero"}]}, {}),
        ({"question": "who?", "answers": ["Bob"]}, {}),
        ({"question": "who?", "answers": 7}, {}),
        ({"question": "half \udfff", "answers": []}, {}),
        ({"question": "who?", "answers": []}, {"context": None}),
        ({"question": "who?", "answers": []}, {"qas": "none"}),
    ],
)
def test_one_odd_question(tmp_path: Path, question: Any, paragraph: dict[str, Any]) -> None:
    fine = {"context": CONTEXT, "qas": [{"question": "who?", "answers": [{"text": "Bob", "answer_start": 0}]}]}
    odd = {"context": CONTEXT, "qas": [question], **paragraph}
    path = tmp_path / "q.json"
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": [fine, odd, fine]}]}), encoding="utf-8")
    report = ReadReport()
    assert [r.row["question"] for r in read_records(path, on_error="skip", report=report)] == ["who?", "who?"]
    assert len(report.rejected) == 1
    with pytest.raises(RowError, match=r"q\.json"):
        list(read_records(path))


def test_a_question_without_answers_is_one_that_is_not_labeled(tmp_path: Path) -> None:
    path = tmp_path / "q.json"
    paragraphs = [{"context": CONTEXT, "qas": [{"question": "who?", "answers": None}]}]
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}), encoding="utf-8")
    assert [r.row["answers"] for r in read_records(path)] == [None]


@pytest.mark.parametrize(
    ("image", "annotation"),
    [
        ({"width": float("inf")}, {}),
        ({"width": 10**300}, {}),
        ({"file_name": "n" * 3000 + ".png"}, {}),
        ({"file_name": "nul\0.png"}, {}),
        ({}, {"bbox": [1, 1, 10**400, 2]}),
        ({}, {"bbox": [1, 1, None, 2]}),
        ({}, {"bbox": {"left": 1}}),
        ({}, {"bbox": None, "segmentation": [[1, 2, "x", 3, 4, 5]]}),
        ({}, {"category_id": ["odd"]}),
    ],
)
def test_one_odd_image_of_coco(tmp_path: Path, image: dict[str, Any], annotation: dict[str, Any]) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    Image.new("RGB", (20, 20)).save(tmp_path / "b.png")
    document = {
        "images": [
            {"id": 1, "file_name": "a.png"},
            {"id": 2, "file_name": "b.png", "width": 20, "height": 20, **image},
        ],
        "annotations": [{"id": 1, "image_id": 2, "category_id": 1, "bbox": [1, 1, 5, 5], **annotation}],
        "categories": [{"id": 1, "name": "box"}],
    }
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    report = ReadReport()
    assert [r.row["image_id"] for r in read_records(path, on_error="skip", report=report)] == [1]
    (rejection,) = report.rejected
    assert rejection.location.row == 2
    assert len(rejection.reason) <= MESSAGE_LIMIT
    with pytest.raises(RowError, match=r"boxes\.json, row 2"):
        list(read_records(path))


@pytest.mark.parametrize("size", ["<width>inf</width><height>20</height>", "<width>nan</width><height>1</height>"])
def test_one_odd_file_of_voc(tmp_path: Path, size: str) -> None:
    for name, of in (("a", ""), ("b", f"<size>{size}</size>")):
        Image.new("RGB", (20, 20)).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.xml").write_text(f"<annotation>{of}</annotation>", encoding="utf-8")
    report = ReadReport()
    assert [r.row["image_id"] for r in read_records(tmp_path, on_error="skip", report=report)] == ["a"]
    assert "expected numbers of pixels" in report.rejected[0].reason


def test_lists_beside_images_in_another_encoding_are_named(tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "images" / "a.png")
    (tmp_path / "labels" / "a.txt").write_text("0 .5 .5 .2 .2", encoding="utf-8")
    (tmp_path / "labels" / "classes.txt").write_bytes("naïve\n".encode("latin-1"))
    with pytest.raises(DataFileError, match=r"classes\.txt, line 1: .* is not utf-8 text\. It is likely"):
        list(read_records(tmp_path))


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf", b"\xe3\x80\x80\n", b" \xc2\xa0\n", b"\xff\xfe\n\x00"])
@pytest.mark.parametrize("suffix", ["json", "jsonl", "csv", "tsv", "conll", "txt"])
def test_a_file_of_blanks_is_empty(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataFileError, match="is empty"):
        list(read_records(path))


@pytest.mark.parametrize("content", ["[" * 5000 + "]" * 5000, '[{"n": ' + "8" * 5000 + "}]"])
def test_a_document_that_python_cannot_hold_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataFileError, match=r"rows\.json: cannot be read as JSON: it holds"):
        list(read_records(path))
