"""JSON lines, JSON documents, question answering, CLUENER-like spans, and how formats are recognized."""

import json

import pytest

from polydetr.data.readers import ReadReport, read_records
from polydetr.errors import DataFileError, RowError, SchemaError


@pytest.fixture
def write(tmp_path):
    def _write(name, content):
        path = tmp_path / name
        path.write_text(
            content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), encoding="utf-8"
        )
        return path

    return _write


def rows(source, **options):
    return [dict(r.row) for r in read_records(source, **options)]


def squad(*questions, context="The mill stands by the mill pond.", title="Mills"):
    return {"version": "v", "data": [{"title": title, "paragraphs": [{"context": context, "qas": list(questions)}]}]}


def test_lines_with_their_places(write):
    path = write("a.jsonl", '{"text": "a"}\n\n{"text": null, "n": NaN}\n')
    records = list(read_records(path))
    assert [(r.location.row, r.location.line) for r in records] == [(1, 1), (2, 3)]
    assert records[1].row["text"] is None


def test_a_line_that_is_not_json_is_named(write):
    path = write("a.jsonl", '{"text": "a"}\n{"text": b}\n[1]\n{"text": "c"}\n')
    with pytest.raises(RowError, match=r"a\.jsonl, line 2: is not JSON: Expecting value at column 10: \{\"text\": b\}"):
        rows(path)
    report = ReadReport()
    assert [r["text"] for r in rows(path, on_error="skip", report=report)] == ["a", "c"]
    assert [r.location.line for r in report.rejected] == [2, 3]
    assert "holds a list ([1]), expected one object" in report.rejected[1].reason


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", [{"text": "a"}, {"text": "b"}]),
        ("a.json", {"data": [{"text": "a"}, {"text": "b"}]}),
        ("a.json", '{"text": "a"}\n{"text": "b"}\n'),
        ("rows", '{"text": "a"}\n{"text": "b"}\n'),
        ("rows", [{"text": "a"}, {"text": "b"}]),
        ("rows", "text,label\na,x\nb,y\n"),
        ("rows", "text\tlabel\na\tx\nb\ty\n"),
    ],
)
def test_the_content_tells_the_format(write, name, content):
    assert [r["text"] for r in rows(write(name, content))] == ["a", "b"]


def test_half_a_character_is_rejected(write):
    path = write("a.jsonl", '{"text": "fine \\ud83d\\ude00"}\n{"text": "half \\ud83d"}\n')
    with pytest.raises(RowError, match=r"line 2: holds half a character \(\\ud83d\)"):
        rows(path)


def test_a_number_of_absurd_length_is_one_bad_row(write):
    path = write("a.jsonl", '{"n": 1}\n{"n": ' + "9" * 5000 + "}\n")
    report = ReadReport()
    assert len(rows(path, on_error="skip", report=report)) == 1
    assert report.rejected[0].location.line == 2


def test_what_cannot_be_told_asks_for_the_format(write):
    for name in ("prose", "prose.txt"):
        with pytest.raises(DataFileError, match=r"cannot tell the format.*--format"):
            read_records(write(name, "It was a dark night.\nThe end, though, was near.\n"))
    with pytest.raises(SchemaError, match=r"unknown format 'cvs'. Did you mean 'csv'\?"):
        read_records(write("a.csv", "a,b\n1,2\n"), format="cvs")


def test_squad_versions_one_and_two(write):
    path = write("dev.json", squad(
        {"id": 7, "question": "Where?", "answers": [{"text": "by the mill pond", "answer_start": 16}]},
        {"id": "b", "question": "Why?", "answers": [], "is_impossible": True},
    ))  # fmt: skip
    first, second = list(read_records(path))
    assert dict(first.row) == {
        "id": "7", "question": "Where?", "context": "The mill stands by the mill pond.",
        "answers": [{"text": "by the mill pond", "start": 16}], "is_impossible": False,
    }  # fmt: skip
    assert first.document == second.document == "Mills"
    assert second.row["answers"] == []
    assert second.row["is_impossible"] is True


def test_answers_are_realigned_to_the_nearest_place_and_counted(write):
    report = ReadReport()
    wrong = [("mill", 20), ("mill", 3), ("mill", 999), ("barn", 4)]
    path = write("dev.json", squad(*({"question": "q", "answers": [{"text": t, "answer_start": s}]} for t, s in wrong)))
    starts = [r["answers"][0]["start"] for r in rows(path, report=report)]
    assert starts == [23, 4, 23, -1]
    assert report.problems == {"answer realigned": 3, "answer not in its text": 1}
    assert "'barn' does not occur" in report.examples["answer not in its text"][0]


def test_answers_that_can_be_pointed_at_come_first(write):
    answers = [{"text": "barn", "answer_start": 0}, {"text": "pond", "answer_start": 28}]
    path = write("dev.json", squad({"question": "q", "answers": answers}))
    assert [a["text"] for a in rows(path)[0]["answers"]] == ["pond", "barn"]


def test_a_question_without_its_parts_is_rejected(write):
    path = write("dev.json", squad({"id": "x", "answers": []}))
    with pytest.raises(RowError, match="lacks 'question'"):
        rows(path)


@pytest.mark.parametrize("start", ["4", 4.0, None, ""])
def test_a_start_may_be_written_as_text_or_left_out(write, start):
    report = ReadReport()
    answer = {"text": "mill", "answer_start": start}
    path = write("dev.json", squad({"question": "q", "answers": [answer]}))
    assert rows(path, report=report)[0]["answers"] == [{"text": "mill", "start": 4}]
    assert rows(write("b.json", squad({"question": "q", "answers": [{"text": "mill"}]})))[0]["answers"][0]["start"] == 4
    row = {"context": "the mill", "question": "q", "answers": {"text": ["mill"], "answer_start": [start]}}
    assert rows([row])[0]["answers"] == [{"text": "mill", "start": 4}]
    assert not report.problems


def test_a_start_that_is_no_number_is_named(write):
    path = write("dev.json", squad({"question": "q", "answers": [{"text": "mill", "answer_start": "four"}]}))
    with pytest.raises(RowError, match=r"row 1: question .*'four'.*expected .*answer_start"):
        rows(path)


@pytest.mark.parametrize("mark", [True, "true", 1])
def test_a_question_marked_as_impossible_has_no_answer_and_the_contradiction_is_counted(write, mark):
    report = ReadReport()
    question = {"question": "q", "answers": [{"text": "mill", "answer_start": 4}], "is_impossible": mark}
    assert rows(write("dev.json", squad(question)), report=report)[0]["answers"] == []
    flat = {**question, "context": "the mill", "answers": [{"text": "mill", "start": 4}]}
    nested = {**flat, "answers": {"text": ["mill"], "answer_start": [4]}}
    assert [row["answers"] for row in rows([flat, nested], report=report)] == [[], []]
    assert report.problems == {"answers of impossible questions": 3}
    assert rows([{**flat, "is_impossible": False}])[0]["answers"] == flat["answers"]


def test_a_question_that_is_not_labeled_is_none_without_an_answer(write):
    path = write("dev.json", squad({"question": "q"}, {"question": "q", "is_impossible": True}))
    assert [row["answers"] for row in rows(path)] == [None, []]


def test_labels_of_questions_to_predict_are_not_looked_at(write):
    path = write("dev.json", squad({"question": "q", "answers": [{"txt": 3}]}))
    assert [record.row["question"] for record in read_records(path, labels=False)] == ["q"]
    broken = {"context": "a mill", "question": "q", "answers": {"text": 3}, "text": "t", "label": {"X": {"a": 1}}}
    assert rows([broken]) == [broken]


def test_hugging_face_answers_take_the_same_shape():
    row = {"context": "a mill", "question": "q", "answers": {"text": ["mill"], "answer_start": [2]}}
    assert rows([row])[0]["answers"] == [{"text": "mill", "start": 2}]


def test_spans_by_surface_become_entities(write):
    report = ReadReport()
    label = {"name": {"王芳": [[0, 1], [6, 7]]}, "place": {"北京": [[4, 5]]}}
    line = {"text": "王芳在北京见王芳", "label": label}
    path = write("a.jsonl", json.dumps(line, ensure_ascii=False) + "\n")
    assert rows(path, report=report) == [{
        "text": "王芳在北京见王芳",
        "entities": [{"start": 0, "end": 2, "label": "name"}, {"start": 3, "end": 5, "label": "place"},
                     {"start": 6, "end": 8, "label": "name"}],
    }]  # fmt: skip
    assert report.problems == {"entity realigned": 1}


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ('{"a": [', DataFileError, "line 1: is not JSON"),
        ('["x", "y"]', RowError, r"row 1: holds a string \('x'\), expected a mapping"),
        ("[]", DataFileError, "is empty, expected rows"),
        ('{"train": [["a", "b"]]}', DataFileError, "expected a list of rows or SQuAD"),
        ('{"images": [], "annotations": []}', DataFileError, "lists no images"),
    ],
)
def test_documents_that_are_not_rows(write, content, error, message):
    with pytest.raises(error, match=message):
        rows(write("a.json", content), format="json")


@pytest.mark.parametrize("orient", ["columns", "index"])
def test_a_table_in_one_object_is_no_row_though_it_stands_in_one_line(tmp_path, orient):
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "rows.json"
    frame = pandas.DataFrame({"text": ["a", "b"], "label": ["x", "y"]})
    frame.to_json(path, orient=orient)
    with pytest.raises(DataFileError, match=r"holds an object .*, expected a list of rows .* orient='records'"):
        rows(path)
    frame.to_json(path, orient="records")
    assert rows(path) == [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]


def test_one_row_in_a_document(write):
    assert rows(write("a.json", '{"text": "a", "label": ["x"]}\n')) == [{"text": "a", "label": ["x"]}]
    tagged = write("b.json", '{"tokens": ["a"], "tags": ["O"]}\n')
    with pytest.raises(DataFileError, match="row by itself is read with --format jsonl"):
        rows(tagged)
    assert rows(tagged, format="jsonl") == [{"tokens": ["a"], "tags": ["O"]}]


def test_a_document_larger_than_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"text": "x" * 1000, "label": "a"}] * 100))
    assert len(list(read_records(path))) == 100
    monkeypatch.setattr("polydetr.data.readers.json_rows.free_memory", lambda: 200_000)
    with pytest.raises(DataFileError, match=r"one JSON document of 0 MB, too large for the memory .*JSON lines"):
        list(read_records(path))
