"""Excel workbooks and plain text as rows."""

from __future__ import annotations

import datetime as dt
import zipfile
from pathlib import Path

import pytest

from polydetr.core.reading import ExpectedColumns
from polydetr.data.readers import ReadReport, read_records
from polydetr.errors import DataFileError, SchemaError

ASKED = ExpectedColumns(("review",), texts=("review",))


@pytest.fixture
def book(tmp_path: Path):
    openpyxl = pytest.importorskip("openpyxl")

    def make(rows: list[list[object]], *more: str) -> Path:
        made = openpyxl.Workbook()
        for row in rows:
            made.active.append(row)
        for title in more:
            made.create_sheet(title)
        made.save(tmp_path / "rows.xlsx")
        return tmp_path / "rows.xlsx"

    return make


def test_a_workbook_gives_rows(book) -> None:
    day = dt.datetime(2024, 2, 9)
    path = book([["id", "n", "day"], ["007", 2.5, day], [], ["008", 3, None]], "others")
    report = ReadReport()
    records = list(read_records(path, report=report))
    assert [record.row for record in records] == [
        {"id": "007", "n": 2.5, "day": day},
        {"id": "008", "n": 3, "day": None},
    ]
    assert [(record.location.row, record.location.line) for record in records] == [(1, 2), (2, 4)]
    assert any("left out: 'others'" in note for note in report.notes())
    assert any("blank rows" in note for note in report.notes())


def test_cells_beyond_the_names_are_kept(book) -> None:
    records = list(read_records(book([["id", None, "n"], [1], [2, "x", 3, "y"]])))
    assert [record.row for record in records] == [
        {"id": 1, "column 2": None, "n": None},
        {"id": 2, "column 2": "x", "n": 3, "column 4": "y"},
    ]


def rewrite(path: Path, name: str, old: bytes, new: bytes) -> None:
    """Puts other bytes into one file of a workbook."""
    with zipfile.ZipFile(path) as archive:
        files = {entry: archive.read(entry) for entry in archive.namelist()}
    assert old in files[name]
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in files.items():
            archive.writestr(entry, content.replace(old, new) if entry == name else content)


SHEET = "xl/worksheets/sheet1.xml"


def test_rows_beyond_the_size_that_a_sheet_claims_are_read(book) -> None:
    path = book([["id", "n"], [1, 2], [3, 4]])
    rewrite(path, SHEET, b'ref="A1:B3"', b'ref="A1:A2"')
    assert [record.row for record in read_records(path)] == [{"id": 1, "n": 2}, {"id": 3, "n": 4}]


def test_a_formula_needs_its_result(book) -> None:
    path = book([["id", "n"], [1, None], [2, "=A3*2"]])
    with pytest.raises(
        DataFileError, match=r"rows\.xlsx: B3 holds a formula without a result\. Open .* Excel and save"
    ):
        list(read_records(path))
    rewrite(path, SHEET, b"<f>A3*2</f><v />", b"<f>A3*2</f><v>4</v>")
    assert [record.row["n"] for record in read_records(path)] == [None, 4]
    path = book([["id", "n"], [2, '=IF(A2>9,1,"")']])
    rewrite(path, SHEET, b'r="B2">', b'r="B2" t="str">')  # an empty text, as Excel writes it
    assert [record.row["n"] for record in read_records(path)] == [None]


def test_merged_cells_are_told(tmp_path: Path) -> None:
    made = pytest.importorskip("openpyxl").Workbook()
    for row in (["id", "n"], [1, "a"], [2, None]):
        made.active.append(row)
    made.active.merge_cells("B2:B3")
    made.save(tmp_path / "rows.xlsx")
    report = ReadReport()
    assert [record.row["n"] for record in read_records(tmp_path / "rows.xlsx", report=report)] == ["a", None]
    assert report.problems == {"of merged cells the first has the value": 1}


@pytest.mark.parametrize("name", ["rows.xlsm", "rows.dat"])
def test_a_workbook_by_another_name_is_read_where_its_format_is_named(book, tmp_path: Path, name: str) -> None:
    path = book([["id"], [1]]).rename(tmp_path / name)
    with pytest.raises(DataFileError, match=r"an Excel workbook.* --format xlsx"):
        read_records(path)
    assert [record.row for record in read_records(path, format="xlsx")] == [{"id": 1}]


def test_workbooks_that_hold_no_rows(book, tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="without rows"):
        list(read_records(book([["id", "n"]])))
    with pytest.raises(SchemaError, match="'id' is there twice"):
        list(read_records(book([["id", "id"], [1, 2]])))
    (tmp_path / "broken.xlsx").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataFileError, match="not a readable Excel workbook"):
        list(read_records(tmp_path / "broken.xlsx"))


def test_the_package_that_reads_workbooks_is_named(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "rows.xlsx").write_bytes(b"PK\x03\x04 whatever")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataFileError, match=r"pip install 'polydetr-core\[xlsx\]'"):  # for there is no torch either
        read_records(tmp_path / "rows.xlsx")
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 whatever")
    with pytest.raises(DataFileError, match=r"read by pyarrow.*pip install 'polydetr-core\[parquet\]', or save"):
        read_records(tmp_path / "rows.parquet")


def test_plain_text_is_a_text_per_line(tmp_path: Path) -> None:
    path = tmp_path / "new.txt"
    path.write_text("[Verse 1] warm, bright\r\n\na,b\n{curly\n\n", encoding="utf-8")
    report = ReadReport()
    records = list(read_records(path, expected=ASKED, report=report, labels=False))
    assert [(r.row["review"], r.location.line) for r in records] == [
        ("[Verse 1] warm, bright", 1),
        ("a,b", 3),
        ("{curly", 4),
    ]
    assert report.problems["blank lines are no rows"] == 1
    assert len(list(read_records(path, format="text"))) == 3
    path.write_text("a warm evening\na cold one, alas\n")
    with pytest.raises(DataFileError, match="cannot tell the format"):  # nothing says that it is asked
        read_records(path)


def test_a_text_file_in_another_format_stays_that(tmp_path: Path) -> None:
    path = tmp_path / "new.txt"
    path.write_text('{"review": "warm"}\n{"review": "cold"}\n')
    assert [r.row for r in read_records(path, expected=ASKED)] == [{"review": "warm"}, {"review": "cold"}]
    path.write_text("Anna B-PER\nsleeps O\n\nBob B-PER\nsits O\n")
    assert len(list(read_records(path, expected=ASKED, labels=False))) == 2


def test_plain_text_for_a_model_of_several_texts(tmp_path: Path) -> None:
    path = tmp_path / "new.txt"
    path.write_text("Where is it?\nWho knows!\n")
    expected = ExpectedColumns(("question", "passage"), texts=("question", "passage"))
    with pytest.raises(DataFileError, match="the model reads the columns 'question', 'passage'"):
        read_records(path, expected=expected)
