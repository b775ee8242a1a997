"""Rows in = rows read + rows reported: quotation marks that are text, ends of lines, headers, encodings."""

from __future__ import annotations

import csv
import io

import pytest

from polydetr.core.reading import ExpectedColumns, ReadOptions
from polydetr.core.records import ReadReport
from polydetr.data.readers import read_records
from polydetr.data.readers.quoting import KEPT, TAKEN
from polydetr.errors import DataFileError, RowError, SchemaError

NAMES = ("note", "mood")


def lines_of(count: int, separator: str, changed: dict[int, str]) -> list[str]:
    """``count`` rows of a note and a mood; ``changed``: number → another note."""
    texts = [changed.get(i, f"note number {i}") for i in range(count)]
    return [f"{text}{separator}{('calm', 'cross')[i % 2]}" for i, text in enumerate(texts)]


@pytest.fixture
def table(tmp_path):
    """Writes lines below a header, and reads them: the rows and the report."""

    def _read(lines, name="a.tsv", end="\n", encoding="utf-8", header=NAMES, **options):
        separator = "\t" if name.endswith("tsv") else ","
        path = tmp_path / name
        path.write_bytes((end.join([separator.join(header), *lines]) + end).encode(encoding))
        report = ReadReport()
        return [dict(r.row) for r in read_records(path, report=report, **options)], report

    return _read


# -- quotation marks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [0, 30_000], ids=["at the beginning", "behind the first megabyte"])
@pytest.mark.parametrize(("name", "separator"), [("a.tsv", "\t"), ("a.csv", ",")])
def test_marks_that_quote_nothing_are_text(table, before, name, separator):
    texts = {before + 3: '"Well then', before + 15: 'said she"'}
    lines = lines_of(before + 30, separator, texts)
    if before:
        lines = [f"{'x' * 40} {line}" if i < before else line for i, line in enumerate(lines)]
    rows, report = table(lines, name)
    assert [[r["note"], r["mood"]] for r in rows] == [line.split(separator) for line in lines]
    assert report.problems == {TAKEN: 1}
    assert f"line {before + 5}" in report.examples[TAKEN][0]


def test_a_mark_that_is_never_closed_costs_its_own_line_alone(table):
    lines = lines_of(40, ",", {4: '"never closed'})
    rows, report = table(lines, "a.csv", on_error="skip")
    assert len(rows) == 39
    assert [(r.location.line, "never closed" in r.reason) for r in report.rejected] == [(6, True)]
    with pytest.raises(RowError, match=r"line 6: the quotation mark .* is never closed"):
        table(lines, "a.csv")
    assert len(table(lines_of(40, "\t", {4: '"never closed'}), "a.tsv")[0]) == 40  # there it is text


def test_quoted_fields_of_several_lines_are_one_row(table):
    texts = ["first, then\nsecond, third\nfourth", 'with a "mark"\nbelow', "plain"] * 10
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([text, i, "calm"] for i, text in enumerate(texts))
    rows, report = table(out.getvalue().splitlines(), "a.csv", header=("note", "number", "mood"))
    assert [r["note"] for r in rows] == texts
    assert not report.problems


def test_a_row_that_could_be_several_is_reported(table):
    lines = [f"note {i},mood {i}" for i in range(20)] + ['"one, two', 'three",four'] + ["last note,last mood"]
    rows, report = table(lines, "a.csv")
    assert rows[20] == {"note": "one, two\nthree", "mood": "four"}
    assert report.problems == {KEPT: 1}


# -- ends of lines, encodings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"], ids=["CR", "CRLF", "LF"])
def test_every_end_of_a_line(table, tmp_path, end, encoding):
    lines = lines_of(25, ",", {3: "höher"})
    rows, _ = table(lines, "a.csv", end=end, encoding=encoding)
    assert [f"{r['note']},{r['mood']}" for r in rows] == lines
    path = tmp_path / "a.conll"
    path.write_bytes((end.join(["Oslo B-CITY", "is O", "", "Bonn B-CITY", ""]) * 1).encode(encoding))
    assert [r.row["tokens"] for r in read_records(path)] == [["Oslo", "is"], ["Bonn"]]
    path = tmp_path / "a.jsonl"
    path.write_bytes(end.join(['{"a": 1}', '{"a": 2}']).encode(encoding))
    assert [r.row["a"] for r in read_records(path)] == [1, 2]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_a_missing_mark_is_named(table, encoding):
    lines = lines_of(5, ",", {1: "天气很好"})
    with pytest.raises(
        DataFileError, match=f"{encoding.upper()} without a mark. Pass --encoding {encoding} "
    ) as caught:
        table(lines, "a.csv", encoding=encoding)
    assert "\x00" not in str(caught.value)
    assert table(lines, "a.csv", encoding=encoding, reading=ReadOptions(encoding=encoding))[0][1]["note"] == "天气很好"


def test_zero_characters_are_no_encoding(table):
    assert len(table(lines_of(3, ",", {1: "a\0b\0\0c"}), "a.csv")[0]) == 3


@pytest.mark.parametrize("name", ["base64", "rot13", "no-such"])
def test_what_is_no_encoding_of_text(table, name):
    with pytest.raises(DataFileError, match=f"unknown encoding {name!r}"):
        table(["a,b"], "a.csv", reading=ReadOptions(encoding=name))


# -- the first line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["sep=;", "sep=|", '"sep=;"'])
def test_the_line_that_names_the_separator(tmp_path, first):
    separator = first.strip('"')[-1]
    path = tmp_path / "a.csv"
    path.write_text("\n".join([first, f"note{separator}mood", f"dear, dear{separator}calm"]), encoding="utf-8-sig")
    (record,) = read_records(path)
    assert (dict(record.row), record.location.line) == ({"note": "dear, dear", "mood": "calm"}, 3)


def test_a_header_is_known_by_an_expected_name(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("remark,cross\n" + "\n".join(lines_of(30, ",", {})))
    report = ReadReport()
    assert set(next(iter(read_records(path, report=report))).row) == {"text", "label"}
    assert "The first line, 'remark, cross', looks like data" in report.examples["no header"][0]
    assert "--header (ReadOptions(header=True))" in report.examples["no header"][0]
    for options in ({"expected": ExpectedColumns(targets=("cross",))}, {"header": True}):
        records = list(read_records(path, **options))
        assert (set(records[0].row), len(records)) == ({"remark", "cross"}, 30)


def test_a_header_of_numbers(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("10,20,30\n" + "".join(f"{i},{i + 1},{i + 2}\n" for i in range(5)))
    expected = ExpectedColumns(("10", "20"), ("30",))
    assert dict(next(iter(read_records(path, expected=expected))).row) == {"10": "0", "20": "1", "30": "2"}


def test_a_file_without_a_header_has_the_names_of_the_training(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("1.5,2\n2.5,3\n")
    expected = ExpectedColumns(("column_1", "column_3"), ("column_2",))
    assert next(dict(r.row) for r in read_records(path, expected=expected)) == {"column_1": "1.5", "column_3": "2"}
    path.write_text("good,film\nbad,film here\n")  # nothing shows that the first line is a row, but in training it was
    assert [r.row["column_3"] for r in read_records(path, expected=expected)] == ["film", "film here"]
    path.write_text("good film\nbad film\n")
    one = ExpectedColumns(("review",), ("label",))
    assert [dict(r.row) for r in read_records(path, header=False, expected=one)][1] == {"review": "bad film"}
    path.write_text("1.5,2\n2.5,3\n")
    named = ExpectedColumns(("width", "height"), ("sort",))  # which of the two is which, nobody knows
    assert "width" not in next(iter(read_records(path, expected=named))).row


@pytest.mark.parametrize("delimiter", ["", "::", '"', "\n"])
def test_what_is_no_delimiter(delimiter):
    with pytest.raises(SchemaError, match="expected one character"):
        ReadOptions(delimiter=delimiter)


def test_bars_delimit_where_nothing_else_does(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("note|mood\nwell, well|calm\noh|cross\n")
    assert [r.row["mood"] for r in read_records(path)] == ["calm", "cross"]
    path.write_text("note|mood\n" + "".join(f"word {i}, well|calm\n" for i in range(30)))
    assert [r.row["mood"] for r in read_records(path)] == ["calm"] * 30
    path.write_text("note,mood\na|b,calm\nc|d,cross\n")
    assert [r.row["note"] for r in read_records(path)] == ["a|b", "c|d"]


def test_ways_to_read_that_mean_nothing_are_reported(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n')
    report = ReadReport()
    assert len(list(read_records(path, reading=ReadOptions(columns=("b",), delimiter=";"), report=report))) == 1
    (note,) = report.notes()
    assert f"{path}: columns, delimiter: of tables of text, but this is jsonl" in note


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("déjà vu", "latin-1"), ("un été à Nîmes", "latin-1"), ("CAFÉ", "latin-1"), ("¿Qué?", "latin-1"),
        ("Straße,gut", "latin-1"), ("it’s “fine”", "cp1252"), ("我们去吃饭", "gb18030"), ("a 好 b", "gb18030"),
        ("請問車站在哪裡", "big5"), ("ありがとう", "shift_jis"), ("ありがとう", "euc_jp"),
        ("カメラの品質が悪い", "euc_jp"), ("정말 재미있는 영화였어요", "cp949"),
        ("菜单不错，环境安静，非常方便", "gb18030"),
    ],
)  # fmt: skip
def test_the_likely_encoding_of_a_few_words(tmp_path, text, encoding):
    path = tmp_path / "rows.csv"
    path.write_bytes(f"text,label\n{text},x\n".encode(encoding))
    with pytest.raises(DataFileError, match=f"likely {encoding}: pass --encoding {encoding} "):
        list(read_records(path))


@pytest.mark.parametrize(
    ("text", "encoding", "letters"),
    [
        ("Отличный отель", "cp1251", "Cyrillic"), ("Отличный отель", "koi8-r", "Cyrillic"),
        ("Πολύ καλή ταινία", "cp1253", "Greek"), ("סרט טוב מאוד", "cp1255", "Hebrew"),
        ("فيلم جيد جدا", "cp1256", "Arabic"), ("หนังสนุกมาก", "cp874", "Thai"),
    ],
)  # fmt: skip
def test_encodings_of_other_letters_are_named_side_by_side(tmp_path, text, encoding, letters):
    path = tmp_path / "rows.csv"
    path.write_bytes(f"text,label\n{text},x\n".encode(encoding))
    with pytest.raises(DataFileError, match=rf"Perhaps it is .*{encoding} \({letters}\).*: name it with --encoding"):
        list(read_records(path))
    assert [record.row["text"] for record in read_records(path, encoding=encoding)] == [text]


def test_text_that_is_ascii_but_for_its_escape_sequences_is_named(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes("text,label\nありがとう,x\n".encode("iso-2022-jp"))
    with pytest.raises(DataFileError, match=r"looks like ISO-2022-JP\. Pass --encoding iso-2022-jp "):
        read_records(path)
    assert [record.row["text"] for record in read_records(path, encoding="iso-2022-jp")] == ["ありがとう"]
