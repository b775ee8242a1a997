"""CSV and TSV: quoting, delimiters, headers, encodings, and the message for each way in which a file can be wrong."""

import bz2
import io
import lzma
import sys

import pytest

from polydetr.data.readers import ReadReport, read_records
from polydetr.errors import DataFileError, RowError, SchemaError
from polydetr.values.cells import decimal_marks


@pytest.fixture
def write(tmp_path):
    def _write(name, content, encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    return _write


def rows(source, **options):
    return [dict(r.row) for r in read_records(source, **options)]


def test_quotes_line_breaks_and_places(write):
    path = write("a.csv", 'text,label\r\n"one, ""two""\nthree",x\r\n\r\nfour,y\r\n')
    records = list(read_records(path))
    assert [dict(r.row) for r in records] == [
        {"text": 'one, "two"\nthree', "label": "x"},
        {"text": "four", "label": "y"},
    ]
    assert [(r.location.row, r.location.line) for r in records] == [(1, 2), (2, 5)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_is_found(write, delimiter):
    lines = [("text", "label"), ("a; b, c" if delimiter == "\t" else "a b", "x"), ("d", "y")]
    path = write("a.csv", "".join(delimiter.join(line) + "\n" for line in lines))
    assert [r["label"] for r in rows(path)] == ["x", "y"]


def test_literal_quotes_in_a_tab_file_stay(write):
    path = write("a.tsv", 'text\tlabel\n"Go" she said\tx\n"all quoted"\ty\nsize 5" pipe\tz\n')
    assert [r["text"] for r in rows(path)] == ['"Go" she said', '"all quoted"', 'size 5" pipe']


def test_real_quotes_in_a_tab_file_are_read(write):
    path = write("a.tsv", 'text\tlabel\n"a\tb"\tx\n"say ""hi"""\ty\n')
    assert [r["text"] for r in rows(path)] == ["a\tb", 'say "hi"']


@pytest.mark.parametrize(
    ("encoding", "mark"), [("utf-8", b"\xef\xbb\xbf"), ("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")]
)
def test_marked_encodings(write, encoding, mark):
    path = write("a.csv", mark + "text,label\n中文，好,x\n".encode(encoding))
    assert rows(path) == [{"text": "中文，好", "label": "x"}]


@pytest.mark.parametrize(
    ("text", "encoding", "offset", "line"),
    [("这个酒店很好,正面", "gb18030", 14, 2), ("café crème,x", "latin-1", 17, 2)],
)
def test_wrong_encoding_names_the_byte_and_the_likely_one(write, text, encoding, offset, line):
    path = write("a.csv", f"text,label\n{text}\n", encoding)
    with pytest.raises(DataFileError) as caught:
        rows(path)
    message = str(caught.value)
    assert f"a.csv, line {line}: byte 0x" in message
    assert "is not utf-8 text" in message
    assert f"pass --encoding {encoding} (ReadOptions(encoding='{encoding}'))" in message
    found = int(message.partition("at offset ")[2].split()[0])
    path.read_bytes()[:found].decode("utf-8")  # everything before the byte named is fine
    assert path.read_bytes()[found] > 127
    assert abs(found - offset) <= 3
    assert rows(path, encoding=encoding) == [dict(zip(["text", "label"], text.split(","), strict=True))]


def test_a_ragged_row_names_line_expected_and_found(write):
    path = write("a.csv", "text,label\na,x\nb,y,z\nc,z\n")
    with pytest.raises(RowError, match=r"a\.csv, line 3: 3 fields, expected 2 \(text, label\)\."):
        rows(path)
    report = ReadReport()
    assert [r["text"] for r in rows(path, on_error="skip", report=report)] == ["a", "c"]
    assert report.rows == 2
    assert [r.to_dict()["line"] for r in report.rejected] == [3]
    assert "3 fields" in report.rejected[0].reason


def test_a_quote_that_is_never_closed_names_the_row_that_opened_it(write):
    path = write("a.csv", 'text,label\na,x\n"b,y\nc,z\n')
    with pytest.raises(RowError, match=r'line 3: the quotation mark \("\) opened in the row that begins at line 3'):
        rows(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty, expected rows"),
        (" \n\n", "is empty, expected rows"),
        ("text,label\n", "a header and no rows"),
        (b"PK\x03\x04rest", "a zip archive or an Excel workbook"),
        (b"\xd0\xcf\x11\xe0rest", "an Excel workbook of before 2007"),
        (bz2.compress(b"a,b"), "a bzip2 archive"),
        (lzma.compress(b"a,b"), "an xz archive"),
        (b"ARROW1\0\0rest", r"an Arrow file \(Feather\)"),
    ],
)
def test_files_without_rows(write, content, message):
    with pytest.raises(DataFileError, match=f"a.csv.*{message}"):
        rows(write("a.csv", content))


def test_missing_file_suggests_a_neighbour(write):
    path = write("train.csv", "a,b\n1,2\n")
    with pytest.raises(DataFileError, match=r"no such file: .*trian\.csv.*Did you mean .*train\.csv"):
        read_records(path.with_name("trian.csv"))
    with pytest.raises(DataFileError, match="is a folder"):
        read_records(path.parent)


def test_duplicate_columns(write):
    path = write("a.csv", "text,text\na,b\n")
    with pytest.raises(SchemaError, match=r"column 'text' appears 2 times.* --columns .* and say --header "):
        rows(path)
    assert rows(path, header=True, columns=["a", "b"])[0] == {"a": "a", "b": "b"}


def test_a_file_without_header_is_recognised_and_told(write):
    path = write("a.tsv", "good film indeed\tpos\nbad film\tneg\nfine\tpos\n")
    report = ReadReport()
    assert rows(path, report=report)[0] == {"text": "good film indeed", "label": "pos"}
    assert "header=True" in report.examples["no header"][0]
    assert rows(path, header=True)[0] == {"good film indeed": "bad film", "pos": "neg"}
    assert rows(path, columns=["t", "y"])[0] == {"t": "good film indeed", "y": "pos"}
    with pytest.raises(SchemaError, match="--columns names 3, and the rows have 2"):
        rows(path, columns=["a", "b", "c"])


def test_a_header_stays_one_where_some_of_its_columns_are_named_anew(write):
    path = write("a.csv", "text,text,label\ngood,x,pos\nbad,y,neg\n")
    report = ReadReport()
    assert [row["label"] for row in rows(path, columns=["text", "note", "label"], report=report)] == ["pos", "neg"]
    assert not report.problems
    assert len(rows(path, columns=["a", "b", "c"], report=report)) == 3
    (note,) = report.notes()
    assert "line 1: 'text, text, label'; if it names the columns, say --header" in note
    report = ReadReport()
    assert len(rows(write("b.csv", "good,pos\nbad,neg\nfine,pos\n"), columns=["t", "y"], report=report)) == 3
    assert not report.problems


def test_a_header_repeated_further_down_is_still_a_header(write):
    assert rows(write("a.csv", "text,label\na,x\ntext,label\n"))[0] == {"text": "a", "label": "x"}


def test_a_column_may_hold_its_own_name(write):
    path = write("a.csv", "word,kind\n" + "".join(f"w{i},k\n" for i in range(30)) + "word,k\n")
    assert rows(path)[-1] == {"word": "word", "kind": "k"}
    assert rows(write("b.csv", "text,y\ntext,a\n")) == [{"text": "text", "y": "a"}]


def test_unnamed_columns_are_numbered(write):
    assert rows(write("a.csv", ",text\n7,a\n9,b\n"))[0] == {"column_1": "7", "text": "a"}


def test_a_huge_field_is_read(write):
    path = write("a.csv", f"text,label\n{'x' * 300_000},y\n")
    assert len(rows(path)[0]["text"]) == 300_000


def test_standard_input_is_csv_or_json_lines(monkeypatch):
    for content in ("text,label\na,b\n", '{"text": "a", "label": "b"}\n'):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
        assert rows("-") == [{"text": "a", "label": "b"}]


def test_reading_is_lazy(write):
    path = write("a.csv", "text,label\n" + "a,x\n" * 50_000 + "broken\n")
    records = read_records(path)
    assert dict(next(records).row) == {"text": "a", "label": "x"}
    with pytest.raises(RowError, match="line 50002: 1 fields"):
        list(records)


def test_an_unknown_encoding_or_mode_is_named(write):
    path = write("a.csv", "text,label\na,x\n")
    with pytest.raises(DataFileError, match="unknown encoding 'utf8000'"):
        read_records(path, encoding="utf8000")
    with pytest.raises(SchemaError, match="on_error is 'ignore'"):
        read_records(path, on_error="ignore")


@pytest.mark.parametrize(
    ("content", "first"),
    [
        ("note;score\n" + "".join(f"word {i};{i},5\n" for i in range(12)), {"note": "word 0", "score": "0,5"}),
        ("note;label\n" + "".join(f"fine, word {i};a\n" for i in range(12)), {"note": "fine, word 0", "label": "a"}),
        ("note,label\n" + "".join(f"a; word {i},b\n" for i in range(12)), {"note": "a; word 0", "label": "b"}),
    ],
)
def test_a_mark_that_the_header_does_not_have_separates_nothing(tmp_path, content, first):
    (tmp_path / "a.csv").write_text(content)
    assert next(iter(read_records(tmp_path / "a.csv"))).row == first


@pytest.mark.parametrize(
    ("content", "first"),
    [
        ('note, mood\n"good day, sir", "calm"\n"oh, no", "cross"\n', {"note": "good day, sir", "mood": "calm"}),
        ('mood, note\n"calm", "good day, sir"\n"cross", "oh"\n', {"mood": "calm", "note": "good day, sir"}),
        ('note,mood\nshe said,"calm"\n"oh, ""no""", "sad\n', {"note": "she said", "mood": "calm"}),
        ('note,mood\nwell, "so" it is\nwell, fine\n', {"note": "well", "mood": ' "so" it is'}),
    ],
)
def test_fields_quoted_after_a_blank(write, content, first):
    assert next(iter(read_records(write("a.csv", content)))).row == first


def test_a_fault_names_the_delimiter_and_how_to_name_another(write):
    with pytest.raises(RowError, match=r"holds the delimiter, ','\), name another delimiter with --delimiter "):
        rows(write("a.csv", "a,b\n1,2\n1,2,3\n"))


def test_decimals_of_a_file_that_separates_by_semicolons_have_a_comma(tmp_path):
    prices = "".join(f"shop {i};{i},{i:03d}\n" for i in range(1, 40))
    (tmp_path / "a.csv").write_text("shop;price\n" + prices)
    (tmp_path / "a.tsv").write_text("shop\tprice\n" + prices.replace(";", "\t"))
    for name, comma in (("a.csv", True), ("a.tsv", False)):
        cells = [record.row["price"] for record in read_records(tmp_path / name)]
        assert cells[:2] == ["1,001", "2,002"]
        assert decimal_marks(cells).comma is comma
