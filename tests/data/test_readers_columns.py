"""CoNLL columns and character files."""

import pytest

from polydetr.core.reading import ExpectedColumns
from polydetr.data.readers import ReadReport, read_records
from polydetr.errors import DataFileError, RowError, SchemaError


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


# -- which column is what ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 1])
def test_a_column_that_counts_the_tokens_is_not_the_token(write, start):
    sentences = [["tin", "from", "Perth"], ["cork"], ["oil", "rose"]]
    tags = {"tin": "B-GOOD", "Perth": "B-CITY", "cork": "B-GOOD", "oil": "B-GOOD"}
    lines = ["\n".join(f"{i}\t{t}\t{tags.get(t, 'O')}" for i, t in enumerate(s, start)) for s in sentences]
    records = read(write("a.conll", "\n\n".join(lines)))
    assert [tokens for tokens, _, _ in records] == sentences
    assert records[0][1] == ["B-GOOD", "O", "B-CITY"]


CONLLU = """# sent_id = 1
1-2\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tdo\tdo\tAUX\t_\t_\t3\taux\t_\t_
2\tn't\tnot\tPART\t_\t_\t3\tadv\t_\t_
3\tgo\tgo\tVERB\t_\t_\t0\troot\t_\t_
3.1\tthere\tthere\tADV\t_\t_\t_\t_\t_\t_

# sent_id = 2
1\tGo\tgo\tVERB\t_\t_\t0\troot\t_\t_
"""


def test_trees_of_conllu_give_words_and_parts_of_speech_unless_others_are_named(write):
    report = ReadReport()
    path = write("a.conllu", CONLLU)
    assert read(path, report=report)[0][:2] == (["do", "n't", "go"], ["AUX", "PART", "VERB"])
    (message,) = report.examples["several columns"]
    assert "the tags are those of column 4 of 10 ('AUX')" in message
    assert "--columns _,tokens,_,tags,_,_,_,_,_,_" in message
    named = next(iter(read_records(path, columns=["_", "form", "lemma", *"___", "_", "relation", "_", "_"])))
    assert named.row == {"form": ["do", "n't", "go"], "lemma": ["do", "not", "go"], "relation": ["aux", "adv", "root"]}
    with pytest.raises(SchemaError, match="expected 10 names, each once"):
        read_records(path, columns=["form", "tags"])


def test_a_last_column_without_tags_is_passed_over(write):
    report = ReadReport()
    text = "1 cork B-GOOD O -\n2 rose O O -\n\n1 tin B-GOOD O -\n2 fell O O -\n"
    assert read(write("a.conll", text), report=report)[0][1] == ["B-GOOD", "O"]
    assert "column 3 of 5" in report.examples["several columns"][0]
    with pytest.raises(DataFileError, match=r"has no column of tags beside the tokens \(\['1', 'cork', '_'\]\)"):
        read(write("b.conll", "1 cork _\n2 rose _\n"))


def test_numbers_and_ranges_are_tokens_where_nothing_is_counted(write):
    assert read(write("a.conll", "in O\n1990-1995 B-X\n3.5 O\n\n7 O\n8 O\n9 O\n"))[0][0] == ["in", "1990-1995", "3.5"]


def test_the_first_line_may_name_the_columns(write):
    record = next(iter(read_records(write("a.conll", "token pos ner\ncork NN B-GOOD\nrose VB O\n"))))
    assert record.row == {"token": ["cork", "rose"], "pos": ["NN", "VB"], "ner": ["B-GOOD", "O"]}


def test_sentences_in_a_file_called_a_table_are_known_by_their_blank_lines(write):
    tagged = "cork\tB-GOOD\nfrom\tO\nPorto\tB-CITY\n\ntin\tB-GOOD\nfrom\tO\nPerth\tB-CITY\n"
    assert read(write("a.tsv", tagged))[1][0] == ["tin", "from", "Perth"]
    words = "cork\tNOUN\nfrom\tADP\nPorto\tNAME\n\n" * 4
    assert read(write("b.tsv", words))[0][1] == ["NOUN", "ADP", "NAME"]
    assert next(iter(read_records(write("a.tsv", tagged), expected=ExpectedColumns(targets=("label",))))).row[
        "label"
    ] == ["B-GOOD", "O", "B-CITY"]
    table = "text\tlabel\ncork rose\tup\n\ntin fell\tdown\n\noil rose\tup\n"
    assert next(iter(read_records(write("c.tsv", table)))).row == {"text": "cork rose", "label": "up"}


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("", "the cork rose {i}"),
        ("text\tlabel\n", "the cork rose {i}"),
        ("text\tlabel\n", "cork{i}"),
        ("", "这家店的软木塞质量非常好我们还会再来买的{i}"),
    ],
)
def test_texts_with_labels_stay_a_table_where_a_blank_line_slipped_in(write, header, text):
    lines = [f"{text.format(i=i)}\t{'up' if i % 2 else 'down'}\n" for i in range(40)]
    lines.insert(20, "\n")
    path = write("a.tsv", header + "".join(lines))
    assert [r.row["label"] for r in read_records(path)] == ["down", "up"] * 20


def test_rows_to_predict_need_no_tags_and_no_right_ones(write):
    untagged = write("a.conll", "cork\n#tin\n\n#oil\nrose\n")
    assert [r.row for r in read_records(untagged, labels=False)] == [
        {"tokens": ["cork", "#tin"]},
        {"tokens": ["#oil", "rose"]},
    ]
    wrong = write("b.conll", "cork NN B-X\nrose VB\n\n" * 60 + "tin NN BX\n")
    assert [r.row["tokens"] for r in read_records(wrong, labels=False)] == [["cork", "rose"]] * 60 + [["tin"]]
    counted = write("c.conll", "1 cork\n2 rose\n")
    assert next(iter(read_records(counted, labels=False))).row == {"tokens": ["cork", "rose"]}


@pytest.mark.parametrize("spelling", ["{label}-{prefix}", "{prefix}_{label}", "{prefix}:{label}"])
def test_other_spellings_are_brought_to_iob2(write, spelling):
    begin, inside = (spelling.format(prefix=prefix, label="CITY") for prefix in "BI")
    text = f"to O\nCape {begin}\nCoast {inside}\n"
    assert read(write("a.conll", text))[0][1] == ["O", "B-CITY", "I-CITY"]
