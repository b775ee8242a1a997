"""Tables written and read back: any cell, in any of the formats."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import math
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polydetr.core.tables import TableColumn, distinct_names
from polydetr.data.readers import read_records
from polydetr.data.writers import workbook
from polydetr.data.writers.base import cell_text, text_cell
from polydetr.data.writers.delimited import DelimitedWriter
from polydetr.data.writers.parquet import ParquetTable
from polydetr.errors import SaveError
from polydetr.values.formulas import without_formula

TEXT = st.text(st.characters(exclude_characters="\0"), max_size=30)
CELLS = st.one_of(
    st.none(), TEXT, st.booleans(), st.integers(), st.floats(), st.dates(), st.datetimes(),
    st.lists(st.integers() | TEXT, max_size=3), st.dictionaries(TEXT, st.integers(), max_size=3),
)  # fmt: skip


def table(writer: Any, names: list[str], rows: list[list[Any]], **how: Any) -> tuple[bytes, list[str]]:
    """A table of own columns, and the messages about it."""
    file = io.BytesIO()
    made = writer(file, [TableColumn(name) for name in names], **how)
    for row in rows:
        made.write(row)
    messages = list(made.close())
    return file.getvalue(), messages


@pytest.mark.parametrize("delimiter", [",", "\t"])
@given(rows=st.lists(st.tuples(CELLS, CELLS), max_size=5))
@settings(max_examples=60, deadline=None)
def test_any_cell_comes_back_from_text(delimiter: str, rows: list[tuple[Any, Any]]) -> None:
    content, _ = table(DelimitedWriter, ["a", "b"], [list(row) for row in rows], delimiter=delimiter)
    found = list(csv.reader(io.StringIO(content.decode(), newline=""), delimiter=delimiter, strict=True))
    assert found == [["a", "b"], *([text_cell(cell) for cell in row] for row in rows)]


@given(
    rows=st.lists(st.tuples(TEXT, st.none() | st.integers(-(2**63), 2**63 - 1), st.booleans()), min_size=1, max_size=5)
)
@settings(max_examples=40, deadline=None)
def test_typed_cells_come_back_from_parquet(rows: list[tuple[Any, ...]]) -> None:
    content, _ = table(ParquetTable, ["a", "b", "c"], [list(row) for row in rows])
    found = pq.read_table(io.BytesIO(content)).to_pylist()
    texts = [row[0].encode("utf-8", "backslashreplace").decode() for row in rows]
    assert [row["a"] for row in found] == texts
    if any(row[1] is not None for row in rows):
        assert [row["b"] for row in found] == [row[1] for row in rows]
    assert [row["c"] for row in found] == [row[2] for row in rows]


@given(text=TEXT)
@settings(max_examples=200, deadline=None)
def test_no_cell_of_a_spreadsheet_begins_a_formula(text: str) -> None:
    safe = without_formula(text)
    assert safe.removeprefix("'") == text.removeprefix("'")
    first = safe.lstrip()[:1]
    if first in tuple("=@＝＠") and first:
        pytest.fail(f"{text!r} became {safe!r}")
    if first in ("+", "-"):
        assert not any((c.isalpha() and c not in "eE") or c in "()|!'\"" for c in safe)


@pytest.mark.parametrize(
    "text",
    ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-2+3+cmd|' /C calc'!A0", "\tx", "\rx", "\n=1", "  =1+1", "＝1+1", "-a",
     "-1 -2", "-1-2"],
)  # fmt: skip
def test_formulas(text: str) -> None:
    assert without_formula(text) == f"'{text}"


@pytest.mark.parametrize(
    "text", ["", "-5", "+3.2", "-1,234.50", "-.5", "-1e-5", "-12%", "-", "--", "+1 555 123", "a=b", "'=1", "3-4"]
)
def test_numbers_and_other_text_stay(text: str) -> None:
    assert without_formula(text) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""), (math.nan, ""), (np.float32("nan"), ""), (np.datetime64("NaT"), ""), ("007", "007"), (True, "true"),
        (np.bool_(False), "false"), (0.1, "0.1"), (1e300, "1e+300"), (-math.inf, "-inf"), (np.int64(-3), "-3"),
        (dt.date(2024, 2, 9), "2024-02-09"), (dt.datetime(2024, 2, 9, 8, 5), "2024-02-09T08:05:00"),
        (np.datetime64("2024-02-09T08:05:00.5", "ns"), "2024-02-09T08:05:00.500000"),
        ([1, None, "a"], '[1, null, "a"]'),
        (np.arange(3), "[0, 1, 2]"), (np.zeros((2, 3, 3)), "<array of 2 × 3 × 3>"), (b"12345", "<5 bytes>"),
        ({"day": dt.date(2024, 2, 9), "set": {"b", "a"}}, '{"day": "2024-02-09", "set": ["a", "b"]}'),
    ],
)  # fmt: skip
def test_cells_as_text(value: Any, text: str) -> None:
    assert cell_text(value) == text


def test_what_we_write_we_read(tmp_path) -> None:
    rows = [["007", "a\nb", 'say "so"', "é, 冷"], ["008", "c\td", "'x", ""]]
    names = ["id", "text", "quote", "more"]
    for suffix, how in ((".csv", {}), (".tsv", {"delimiter": "\t"})):
        path = tmp_path / f"t{suffix}"
        path.write_bytes(table(DelimitedWriter, names, rows, **how)[0])
        assert [list(record.row.values()) for record in read_records(path)] == rows


def test_parquet_keeps_types_and_says_where_they_end(monkeypatch) -> None:
    monkeypatch.setattr("polydetr.data.writers.parquet._ROWS", 2)
    day = dt.date(2024, 2, 9)
    content, _ = table(
        ParquetTable, list("abcde"), [[1, 0.5, day, b"x", [1]], [None] * 5, [2, 1.5, day, b"y", {"k": 2}]]
    )
    rows = pq.read_table(io.BytesIO(content)).to_pylist()
    assert [row["a"] for row in rows] == [1, None, 2]
    assert [row["c"] for row in rows] == [day, None, day]
    assert [row["d"] for row in rows] == [b"x", None, b"y"]
    assert [row["e"] and json.loads(row["e"]) for row in rows] == [[1], None, {"k": 2}]
    assert pq.ParquetFile(io.BytesIO(content)).num_row_groups == 2
    with pytest.raises(SaveError, match=r"row 4 has 'many' in column 'a', whose first rows hold int64.*Write \.csv"):
        table(ParquetTable, ["a"], [[1], [2], [3], ["many"]])
    assert pq.read_table(io.BytesIO(table(ParquetTable, ["a"], [[1], ["x"]])[0])).to_pylist() == [
        {"a": "1"},
        {"a": "x"},
    ]
    assert pq.read_table(io.BytesIO(table(ParquetTable, ["a"], [])[0])).num_rows == 0


@pytest.fixture
def openpyxl() -> Any:
    return pytest.importorskip("openpyxl")


def sheets(openpyxl: Any, content: bytes) -> dict[str, list[tuple[Any, ...]]]:
    book = openpyxl.load_workbook(io.BytesIO(content))
    return {sheet.title: list(sheet.iter_rows(values_only=True)) for sheet in book.worksheets}


def test_workbooks_keep_types_and_text(openpyxl: Any) -> None:
    moment = dt.datetime(2024, 2, 9, 8, 5)
    zoned = moment.replace(tzinfo=dt.UTC)
    row = [
        "007",
        -3,
        0.25,
        True,
        moment,
        zoned,
        10**18,
        math.inf,
        "#N/A",
        "\x07a\r\nb",
        [1],
        dt.date(1850, 1, 2),
        " x ",
    ]
    content, messages = table(workbook.WorkbookWriter, [f"c{i}" for i in range(len(row))], [row, [None] * len(row)])
    _, found, *empty = sheets(openpyxl, content)["answers"]
    assert found == ("007", -3, 0.25, True, moment, "2024-02-09T08:05:00+00:00", str(10**18), "inf", "#N/A",
                     "\\x07a\nb", "[1]", "1850-01-02", " x ")  # fmt: skip
    assert not any(cell for cells in empty for cell in cells)
    assert messages == []


@given(texts=st.lists(TEXT, min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_any_text_is_text_in_a_workbook(texts: list[str]) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    content, _ = table(workbook.WorkbookWriter, ["a", "n"], [[text, 1] for text in texts])
    book = openpyxl.load_workbook(io.BytesIO(content))
    cells = [row[0] for row in book.worksheets[0].iter_rows(min_row=2)]
    assert all(cell.data_type in ("s", "n", "inlineStr") and not str(cell.value).startswith("=") for cell in cells)
    plain = [(cell.value or "", text) for cell, text in zip(cells, texts, strict=True) if text.isprintable()]
    assert all(value == without_formula(text) for value, text in plain)


def test_what_excel_cannot_hold_is_said(openpyxl: Any, monkeypatch) -> None:
    content, (message,) = table(workbook.WorkbookWriter, ["a"], [["x"], ["冷😀" * 20_000]])
    value = sheets(openpyxl, content)["answers"][2][0]
    assert len(value.encode("utf-16-le")) // 2 <= 32_767
    assert value.endswith("… [cut]")
    assert "1 text was cut to the 32,767 characters of an Excel cell (row 2, column 'a' first)" in message
    monkeypatch.setattr(workbook, "MOST_ROWS", 3)
    content, (message,) = table(workbook.WorkbookWriter, ["a"], [[i] for i in range(5)])
    assert [rows[1:] for rows in sheets(openpyxl, content).values()] == [[(0,), (1,)], [(2,), (3,)], [(4,)]]
    assert "fill 3 sheets" in message
    with pytest.raises(SaveError, match="20,000 columns are more than the 16,384"):
        table(workbook.WorkbookWriter, ["a"] * 20_000, [])


def test_names_that_are_taken() -> None:
    assert distinct_names(["a", "b", "a"], ["b", "b_2"]) == ["a", "b_3", "a_2"]
