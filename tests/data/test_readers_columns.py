"""CoNLL columns and character files."""

import pytest

from polydetr.data.readers import ReadReport, read_records
from polydetr.errors import DataFileError, RowError


@pytest.fixture
def write(tmp_path):
    def _write(name, content):
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return path

    return _write


def read(path, **options):
    return [(r.row["tokens"], r.row["tags"], r.document) for r in read_records(path, **options)]


IOB1 = """-DOCSTART- -X- O O

Ann NNP I-NP I-PER
Bo NNP I-NP B-PER
flew VB I-VP O

-DOCSTART- -X- -X- O

Rome NNP I-NP I-LOC
"""


@pytest.mark.parametrize("name", ["eng.train", "a.conll", "a.txt", "a.bio"])
def test_iob1_with_documents(write, name):
    assert read(write(name, IOB1)) == [
        (["Ann", "Bo", "flew"], ["B-PER", "B-PER", "O"], "1"),
        (["Rome"], ["B-LOC"], "2"),
    ]


def test_without_docstart_there_is_no_document(write):
    assert read(write("a.bio", "a B-X\nb I-X\n\n\nc O")) == [(["a", "b"], ["B-X", "I-X"], None), (["c"], ["O"], None)]


def test_characters_in_bmes(write):
    text = "王 B-PER\n小 M-PER\n明 E-PER\n到 O\n京 S-LOC\n"
    assert read(write("a.bmes", text)) == [(list("王小明到京"), ["B-PER", "I-PER", "I-PER", "O", "B-LOC"], None)]


def test_broken_bmes_is_read_leniently_and_counted(write):
    report = ReadReport()
    path = write("a.bmes", "王 B-PER\n在 O\n京 M-LOC\n城 E-LOC\n\n上 S-LOC\n")
    assert read(path, report=report)[0][1] == ["B-PER", "O", "B-LOC", "I-LOC"]
    assert report.problems == {"broken tag sequence": 2}
    assert "line 1: the chunk of 'PER' has no end (E-) before 'O'" in report.examples["broken tag sequence"][0]
    assert (
        "line 3: 'M-LOC' goes on with a chunk that was not begun (B-LOC)" in report.examples["broken tag sequence"][1]
    )


def test_a_tag_of_another_scheme_is_an_error_with_its_sentence(write):
    path = write("a.bmes", "a B-X\nb E-X\n\n" * 60 + "c BX\n")
    with pytest.raises(RowError, match=r"a\.bmes, line 181: tag 'BX' does not belong to the scheme B"):
        read(path)
    report = ReadReport()
    assert len(read(path, on_error="skip", report=report)) == 60
    assert report.rejected[0].location.row == 61


def test_full_width_spaces_and_hashes_are_tokens(write):
    text = "# a comment line\n中 O\n\u3000 O\n# O\n\n# id = 7 x\n#tag B-X\n"
    assert read(write("a.bio", text)) == [(["中", "\u3000", "#"], ["O"] * 3, None), (["#tag"], ["B-X"], None)]


def test_tabs_separate_alone_where_they_are_used(write):
    assert read(write("a.bio", "New York\tB-X\n \tO\nis\tO\n")) == [(["New York", " ", "is"], ["B-X", "O", "O"], None)]


def test_labels_that_are_no_spans_stay(write):
    assert read(write("a.conll", "a DT\ncat NN\n"))[0][1] == ["DT", "NN"]


def test_a_line_with_other_columns_is_named(write):
    path = write("a.conll", "a x O\nb y B-P\n\nc O\n\nd z O\n")
    with pytest.raises(RowError, match=r"a\.conll, line 4: 2 columns, expected 3: 'c O'"):
        read(path)
    report = ReadReport()
    assert [tokens for tokens, _, _ in read(path, on_error="skip", report=report)] == [["a", "b"], ["d"]]
    assert len(report.rejected) == 1


def test_files_without_sentences(write):
    with pytest.raises(DataFileError, match="has one column"):
        read(write("a.conll", "alone\n"))
    with pytest.raises(DataFileError, match="holds no sentence"):
        read(write("b.conll", "-DOCSTART- -X- O\n\n# nothing\n"))


def test_the_scheme_can_be_named(write):
    path = write("a.conll", "a B-X\nb I-X\n")
    assert read(path, scheme="iob2")[0][1] == ["B-X", "I-X"]
    assert read(path, scheme="plain")[0][1] == ["B-X", "I-X"]
    with pytest.raises(RowError, match="'I-X' does not belong to the scheme BMES"):
        read(path, scheme="bmes")
