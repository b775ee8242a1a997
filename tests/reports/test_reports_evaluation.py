"""The files about one measuring: those written before one that fails are told, each name is of one source."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polydetr.core.mistakes import Mistakes
from polydetr.core.predictions import Evaluation
from polydetr.reports import evaluation
from polydetr.reports.evaluation import ReportWarning, free_name, write_evaluations


def test_what_was_written_before_one_that_cannot_be_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "mistakes_page", lambda *args, **more: 1 / 0)
    measured = Evaluation({"accuracy": 0.5}, {"classes": "a table"}, mistakes=Mistakes(1, {}, {}, 0))
    with pytest.warns(ReportWarning, match="ZeroDivisionError"):
        written = write_evaluations(tmp_path, {"y": measured}, name="rows", image_of=lambda record: None)
    assert written == [tmp_path / name for name in ("rows-classes.txt", "rows.json", "rows-mistakes.json")]
    assert {*tmp_path.iterdir()} == {*written}


@pytest.mark.parametrize(
    ("file", "content", "free"),
    [
        ("other.json", {}, "rows"),
        ("rows.json", {"source": "here", "metrics": {}}, "rows"),
        ("rows.json", {"source": "there", "metrics": {}}, "rows-2"),
        ("rows.json", {"metrics": {}}, "rows-2"),  # of training
        ("rows.json", [{"text": "a row"}], "rows-2"),
        ("rows-rows.jsonl", {"text": "a row"}, "rows-2"),
    ],
)
def test_a_name_is_free_where_nothing_of_another_source_is_called_so(
    tmp_path: Path, file: str, content: object, free: str
) -> None:
    (tmp_path / file).write_text(json.dumps(content))
    assert free_name(tmp_path, "rows", ["y"], source="here") == free
    assert free_name(tmp_path, "rows", ["y", "z"], source="here") == "rows"  # called rows-y and rows-z
    (tmp_path / "rows-z.json").write_text("no JSON")
    assert free_name(tmp_path, "rows", ["y", "z"], source="here") == "rows-2"
