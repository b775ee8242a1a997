"""What is asked for becomes as many records as it has rows, and in any order; or it is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from polydetr.core.reading import ReadOptions
from polydetr.core.records import ReadReport
from polydetr.engine.engine import Engine
from polydetr.engine.inputs import LOOKED_AT, asked_records, target_records
from polydetr.engine.outputs import answers
from polydetr.errors import SchemaError
from tiny_models import make_engine

TEXTS = ["red fox", "blue whale", "green frog"]


def rows_of(source: Any, fields: list[str], single: list[str] | None = None) -> list[dict[str, Any]]:
    return [dict(record.row) for record in asked_records(source, fields, single=fields if single is None else single)]


def test_columns_of_lists_are_as_many_rows() -> None:
    expected = [{"text": text, "x": i} for i, text in enumerate(TEXTS)]
    assert rows_of({"text": TEXTS, "x": [0, 1, 2]}, ["text", "x"]) == expected
    frame = pd.DataFrame(expected)
    assert rows_of({"text": frame.text, "x": tuple(frame.x)}, ["text"]) == expected
    assert rows_of({"text": frame.text.to_numpy(), "x": frame.x.to_numpy()}, ["text"]) == expected
    for uneven in ({"text": TEXTS, "x": [0, 1]}, {"text": TEXTS, "x": 1}):
        with pytest.raises(SchemaError, match=r"lists of one length: 'text' has 3, 'x' has .*predict\(\[row\]\)"):
            rows_of(uneven, ["text", "x"])


def test_a_list_where_one_value_is_a_list_is_one_row() -> None:
    row = {"seen": [{"title": "a"}, {"title": "b"}], "x": 1}
    assert rows_of(row, ["seen", "x"], ["x"]) == [row]
    assert rows_of([{"text": TEXTS}], ["text"]) == [{"text": TEXTS}]
    assert rows_of({"tokens": TEXTS}, ["tokens"], []) == [{"tokens": TEXTS}]


def test_a_row_of_a_data_frame_is_one_row_and_a_column_is_its_values() -> None:
    frame = pd.DataFrame({"text": TEXTS, "label": ["a", "b", "c"]}, index=["r1", "r2", "r3"])
    assert rows_of(frame.iloc[0], ["text"]) == [{"text": "red fox", "label": "a"}]
    assert rows_of([frame.iloc[0], frame.iloc[2]], ["text"])[1] == {"text": "green frog", "label": "c"}
    assert rows_of(frame["text"], ["text"]) == [{"text": text} for text in TEXTS]
    assert rows_of(pd.Series(TEXTS), ["text"]) == [{"text": text} for text in TEXTS]
    with pytest.raises(SchemaError, match="has none that the model reads: 'body'"):
        rows_of(frame.iloc[0], ["body"])


def test_names_of_columns_may_be_numbers() -> None:
    assert rows_of([{0: 1.5, 1: "a"}], ["0", "1"]) == [{"0": 1.5, "1": "a"}]
    assert rows_of(pd.DataFrame([[1.5, "a"]]).iloc[0], ["0", "1"]) == [{"0": 1.5, "1": "a"}]
    assert [dict(record.row) for record in target_records([{3: "a"}, "b"], "3")] == [{"3": "a"}, {"3": "b"}]


@pytest.mark.parametrize("first", [0, 3, 5])
def test_a_key_that_some_rows_leave_out_is_missing_there(tmp_path: Path, first: int) -> None:
    rows = [{"a": i, "note": "x"} for i in range(5)]
    rows.insert(first, {"a": 9})
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert rows_of(path, ["a", "note"]) == rows_of(rows, ["a", "note"]) == rows


def test_a_column_in_no_row_is_one_error_with_all_names() -> None:
    rows = [{"a": 1}, {"nota": 2}]
    with pytest.raises(SchemaError, match=r"no column 'note'.*columns are 'a', 'nota'. Did you mean 'nota'"):
        rows_of(rows, ["a", "note"])
    endless = ({"a": i} for i in iter(int, 1))
    with pytest.raises(SchemaError, match="no column 'note'"):
        rows_of(endless, ["a", "note"])
    assert LOOKED_AT >= 1000


def test_rows_that_wait_keep_their_place_among_those_that_are_rejected(tmp_path: Path) -> None:
    engine: Engine = make_engine(
        [{"a": i, "note": "xy"[i % 2], "y": "pq"[i % 2]} for i in range(30)], {"y": "classification"},
        inputs={"a": "number", "note": "category"},
    )  # fmt: skip
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{broken\n{"a": 2}\n{"a": 3, "note": "x"}\n{broken too\n{"a": 4}\n')
    report = ReadReport()
    records = asked_records(path, ["a", "note"], reading=ReadOptions(on_error="skip"), report=report)
    found = list(answers(engine, records, report))
    assert [answer.error is not None for answer in found] == [False, True, False, False, True, False]
    assert [answer.row for answer in found] == [1, 2, 3, 4, 5, 6]
