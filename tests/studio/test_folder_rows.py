"""The rows that a model's folder keeps as they were read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from polydetr.serving.contract import ModelInfo
from polydetr.studio.folder_rows import rows_of_folder

INFO = ModelInfo(
    "m", "1", {"schema": {"inputs": [{"name": "text", "modality": "text"}],
                          "targets": [{"name": "label", "task": "classification"}]}}, {}, {}, "",
)  # fmt: skip
TWO = ModelInfo(
    "m", "1", {"schema": {"inputs": [{"name": "text", "modality": "text"}, {"name": "n", "modality": "number"}],
                          "targets": [{"name": "label", "task": "classification"}]}}, {}, {}, "",
)  # fmt: skip


def test_measured_rows_that_are_whole_each_once_validation_rows_first(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    lines = {
        "valid": [("one", 1, True), ("two", 2, True), ("one", 1, True)],
        "test": [("three", 3, True), ("cut", 4, False)],
    }
    for split, rows in lines.items():
        (tmp_path / "reports" / f"{split}.json").write_text("{}")
        content = "".join(json.dumps({"row": {"text": t, "n": n, "more": 1}, "whole": w}) + "\n" for t, n, w in rows)
        (tmp_path / "reports" / f"{split}-rows.jsonl").write_text(content + "no JSON\n")
    found = rows_of_folder(replace(TWO, folder=str(tmp_path)))
    assert found == [{"text": "one", "n": 1}, {"text": "two", "n": 2}, {"text": "three", "n": 3}]


def test_kept_texts_are_rows_where_a_model_reads_one_text_alone(tmp_path: Path) -> None:
    header = {"parts": {"rows": {"texts": [[["one", [[0, 3]]]], [["two", [[0, 3]]]], [["one", [[0, 3]]]], 5]}}}
    block = json.dumps({"__metadata__": {"polydetr": json.dumps(header)}}).encode()
    (tmp_path / "rows.safetensors").write_bytes(len(block).to_bytes(8, "little") + block)
    assert rows_of_folder(replace(INFO, folder=str(tmp_path))) == [{"text": "one"}, {"text": "two"}]
    assert rows_of_folder(replace(TWO, folder=str(tmp_path))) == []  # the numbers are not kept
    assert rows_of_folder(INFO) == []


def test_a_damaged_folder_keeps_nothing(tmp_path: Path) -> None:
    for content in (b"", b"\xff" * 20, (10).to_bytes(8, "little") + b"[1, 2, 3] "):
        (tmp_path / "rows.safetensors").write_bytes(content)
        assert rows_of_folder(replace(INFO, folder=str(tmp_path))) == []
