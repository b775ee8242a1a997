"""Corrections as files, which our own readers read again."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from correction_cases import BOXES, CLASSES, ENTITIES, QUESTIONS, image_bytes, model_info

from polydetr.core.reading import ExpectedColumns
from polydetr.data.readers import read_records
from polydetr.errors import InputError
from polydetr.studio.correct_address import Place
from polydetr.studio.correct_forms import correctable
from polydetr.studio.correct_list import exported, formats
from polydetr.studio.corrections import Corrections
from polydetr.web.store.database import Database

TEXT = "Ada 😀 met שלום in Paris"
CASES: list[tuple[Any, str, dict[str, Any], Any]] = [
    (CLASSES, "label", {"text": "=cmd(1) <script>"}, "good"),
    (ENTITIES, "entities", {"title": "t", "text": TEXT}, [{"start": 18, "end": 23, "label": "LOC", "text": "Paris"}]),
    (QUESTIONS, "answers", {"question": "?", "context": TEXT}, {"text": "Paris", "start": 18, "end": 23}),
    (BOXES, "objects", {"image": image_bytes()}, [{"box": [1.0, 2.0, 20.0, 21.0], "label": "dog"}]),
]


@pytest.mark.parametrize(("info", "target", "row", "value"), CASES)
def test_json_lines_are_read_again(info: Any, target: str, row: dict[str, Any], value: Any, tmp_path: Path) -> None:
    with_one = Corrections(Database.open(tmp_path / "store.db"))
    with_one.save(id="00000001", info=info, row=row, target=target, value=value, person="Ada")
    found = exported(with_one, info.name, "jsonl", Place(), "")
    content = found.content
    if found.name.endswith(".zip"):
        zipfile.ZipFile(io.BytesIO(content)).extractall(tmp_path / "out")
    else:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / found.name).write_bytes(content)
    path = tmp_path / "out" / "corrections.jsonl"
    (record,) = read_records(path, expected=ExpectedColumns(tuple(row), (target,)))
    if isinstance(value, dict):
        assert record.row[target][0]["text"] == value["text"]
    elif isinstance(value, list):
        assert [one["label"] for one in record.row[target]] == [one["label"] for one in value]
    else:
        assert record.row[target] == value
    if "image" in row:
        assert (tmp_path / "out" / record.row["image"]).exists() or Path(record.row["image"]).exists()


def test_the_filters_of_the_list_hold_for_its_file(tmp_path: Path) -> None:
    corrections = Corrections(Database.open(tmp_path / "store.db"))
    for i, person in enumerate(("Ada", "Ben", "Ben")):
        corrections.save(
            id=f"0000000{i}", info=CLASSES, row={"text": f"row {i}"}, target="label", value="good", person=person
        )
    found = exported(corrections, "model", "jsonl", Place(person="Ben"), "")
    assert [json.loads(line)["text"] for line in found.content.decode().splitlines()] == ["row 1", "row 2"]
    with pytest.raises(InputError, match="no corrections"):
        exported(corrections, "model", "jsonl", Place(kind="withdrawn"), "")
    corrections.undo("00000001", "Ben")
    for suffix in ("jsonl", "csv"):  # what was withdrawn is no training row
        with pytest.raises(InputError, match="no corrections"):
            exported(corrections, "model", suffix, Place(kind="withdrawn"), "")


def test_what_may_be_written_follows_from_the_targets() -> None:
    forms, _ = correctable(BOXES, ["objects"])
    assert formats(forms, "") == [("jsonl", ""), ("csv", ""), ("json", "objects")]
    both = model_info(
        {"text": "text"}, a={"task": "entities", "labels": ["X"]}, b={"task": "classification", "labels": ["y"]}
    )
    forms, _ = correctable(both, ["a", "b"])
    assert formats(forms, "") == [("jsonl", ""), ("csv", ""), ("conll", "a")]
    assert formats(forms, "b") == [("jsonl", "b"), ("csv", "b")]
