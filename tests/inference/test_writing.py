"""Answers as tables and as a page: every kind of file read back holds what was answered, beside the user's own rows."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import threading
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from film_models import film_rows
from polydetr import LoadedModel, Options
from polydetr.core.installed import pip_install
from polydetr.core.reading import ReadOptions
from polydetr.engine.inputs import ReadingWarning
from polydetr.errors import InputError, SaveError
from polydetr.inference.writing import WritingWarning, check_outputs
from polydetr.reports import answers_page
from polydetr.schema.infer import infer_schema
from tiny_models import make_engine

ROWS = [{"id": f"00{i}", **row} for i, row in enumerate(film_rows(12))]
TARGETS = {"label": "classification", "stars": "regression", "entities": "tagging"}
TABLES = [".csv", ".tsv", ".parquet", ".xlsx"]


def model_of(rows: list[dict[str, Any]], target: dict[str, str], **inputs: str) -> LoadedModel:
    engine = make_engine(rows, target, inputs=inputs)
    schema = infer_schema(rows, targets=target, inputs=inputs)
    return LoadedModel(engine, {"schema": schema.to_dict()})


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return model_of(ROWS, TARGETS, text="text")


@pytest.fixture(scope="module")
def classes() -> LoadedModel:
    rows = [{"text": row["text"], "label": row["label"]} for row in ROWS]
    return model_of(rows, {"label": "classification"}, text="text")


def read(path: Path) -> list[dict[str, Any]]:
    """A table by a reader that is not ours; empty cells are None, and all cells of text files are text."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".xlsx":
        openpyxl = pytest.importorskip("openpyxl")
        book = openpyxl.load_workbook(path)
        head, *rows = (row for sheet in book.worksheets for row in sheet.iter_rows(values_only=True))
        return [dict(zip(head, row, strict=True)) for row in rows]
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
        return [{name: cell or None for name, cell in row.items()} for row in rows]


def places(folder: Path, suffixes: list[str] = TABLES) -> list[Path]:
    """A file of each kind that can be written here."""
    try:
        import openpyxl  # noqa: F401
    except ImportError:
        suffixes = [suffix for suffix in suffixes if suffix != ".xlsx"]
    return [folder / f"answers{suffix}" for suffix in suffixes]


def test_every_table_holds_the_rows_and_what_is_answered(model: LoadedModel, tmp_path: Path) -> None:
    answers = model.predictions(ROWS)
    for path in places(tmp_path):
        written = model.write(ROWS, path)
        assert (written.answered, written.rejected) == (12, 0)
        found = read(path)
        assert list(found[0]) == [
            "id", "text", "label", "stars", "entities", "predicted_label", "label_confidence", "predicted_stars",
            "predicted_entities", "entities_text", "entities_confidence", "warnings", "error",
        ]  # fmt: skip
        assert [row["id"] for row in found] == [row["id"] for row in ROWS]  # with their zeros
        assert [row["label"] for row in found] == [row["label"] for row in ROWS]  # never overwritten
        assert [json.loads(row["entities"]) for row in found] == [row["entities"] for row in ROWS]
        for row, answer in zip(found, answers, strict=True):
            assert row["predicted_label"] == answer["label"].value
            assert float(row["label_confidence"]) == pytest.approx(answer["label"].probability, abs=1e-15)
            assert float(row["predicted_stars"]) == pytest.approx(answer["stars"].value, abs=1e-12)
            assert json.loads(row["predicted_entities"]) == answer["entities"].value
            texts = [f"{span['text']} [{span['label']}]" for span in answer["entities"].value]
            assert (row["entities_text"] or "") == "; ".join(texts)
            assert row["error"] is None


def test_probabilities_of_every_class(model: LoadedModel, tmp_path: Path) -> None:
    expected = model.predict_proba(ROWS)
    model.write(ROWS, tmp_path / "a.csv", probabilities=True)
    for row, probabilities in zip(read(tmp_path / "a.csv"), expected, strict=True):
        assert {name: float(row[f"label_probability_{name}"]) for name in ("good", "bad")} == probabilities["label"]
    model.write(ROWS, tmp_path / "a.jsonl", probabilities=True)
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["probabilities"]["label"] for line in lines] == [p["label"] for p in expected]
    numbers = model_of(ROWS, {"stars": "regression"}, text="text")
    with pytest.raises(InputError, match=r"answers with no classes\. Leave probabilities out"):
        numbers.write(ROWS, tmp_path / "b.csv", probabilities=True)


def test_what_finds_no_objects_draws_none(model: LoadedModel, tmp_path: Path) -> None:
    for ask in (
        lambda: model.write(ROWS, tmp_path / "a.csv", draw=tmp_path / "drawn"),
        lambda: list(model.stream(ROWS, draw=tmp_path / "drawn")),
    ):
        with pytest.raises(InputError, match=r"finds no objects in images\. Leave draw out"):
            ask()
    assert not list(tmp_path.iterdir())


def test_answers_of_an_answered_file_have_names_of_their_own(classes: LoadedModel, tmp_path: Path) -> None:
    classes.write(ROWS, tmp_path / "once.csv")
    with pytest.warns(WritingWarning) as messages:
        classes.write(tmp_path / "once.csv", tmp_path / "twice.csv")
    (message,) = [str(one.message) for one in messages]
    assert "called 'predicted_label', 'label_confidence', 'warnings', 'error': the answers stand in" in message
    assert message.endswith("'predicted_label_2', 'label_confidence_2', 'warnings_2', 'error_2'")
    once, twice = read(tmp_path / "once.csv"), read(tmp_path / "twice.csv")
    assert [{name: row[name] for name in once[0]} for row in twice] == once
    assert list(twice[0])[-4:] == ["predicted_label_2", "label_confidence_2", "warnings_2", "error_2"]
    assert [row["predicted_label_2"] for row in twice] == [row["predicted_label"] for row in once]


def test_a_rejected_row_keeps_its_place(classes: LoadedModel, tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    source.write_text("text,note\na warm evening,x\na,b,c\na cold one,y\n")
    for path in places(tmp_path):
        written = classes.write(source, path)
        assert (written.answered, written.rejected) == (2, 1)
        first, bad, last = read(path)
        assert (first["note"], last["note"]) == ("x", "y")
        assert first["predicted_label"]
        assert first["error"] is None
        assert "3 fields, expected 2" in bad["error"]
        assert {name: cell for name, cell in bad.items() if cell is not None} == {"error": bad["error"]}
    with pytest.warns(ReadingWarning, match="1 row was left out"):
        written = classes.write(source, tmp_path / "good.csv", options=Options(ReadOptions(on_error="skip")))
    assert [row["note"] for row in read(tmp_path / "good.csv")] == ["x", "y"]


def test_a_row_that_can_be_read_and_not_answered_keeps_its_cells(model: LoadedModel, tmp_path: Path) -> None:
    numbers = model_of([{"a": 1.0 * i, "y": 2.0 * i} for i in range(8)], {"y": "regression"}, a="number")
    numbers.write([{"a": 1, "n": "p"}, {"a": "many", "n": "q"}], tmp_path / "a.csv")
    good, bad = read(tmp_path / "a.csv")
    assert (bad["a"], bad["n"], bad["predicted_y"]) == ("many", "q", None)
    assert "'many' is not a number" in bad["error"]
    assert good["predicted_y"]


def test_withheld_answers_say_so(classes: LoadedModel, tmp_path: Path) -> None:
    classes.write(ROWS, tmp_path / "a.csv", options=Options(min_confidence=1.0))
    rows = read(tmp_path / "a.csv")
    assert {row["label_abstained"] for row in rows} == {"true"}
    assert all(row["predicted_label"] for row in rows)  # the best guess
    classes.write(ROWS, tmp_path / "b.csv", options=Options(min_confidence=0.0))
    assert {row["label_abstained"] for row in read(tmp_path / "b.csv")} == {"false"}


def test_of_a_list_those_that_are_withheld_say_so_wherever_people_read_them(model: LoadedModel, tmp_path: Path) -> None:
    spans = [span for answer in model.predictions(ROWS) for span in answer["entities"].value]
    least = sorted(span["probability"] for span in spans)[len(spans) // 2]
    options = Options(min_confidence=least)
    model.write(ROWS, tmp_path / "a.csv", html=tmp_path / "a.html", options=options)
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    cards = re.findall("<article.*?</article>", page, re.DOTALL)
    for row, card, answer in zip(read(tmp_path / "a.csv"), cards, model.answer(ROWS, options=options), strict=True):
        items = answer.predictions["entities"].value
        labels = [f"{one['label']} withheld" if "abstained" in one else one["label"] for one in items]
        texts = [f"{one['text']} [{label}]" for one, label in zip(items, labels, strict=True)]
        assert (row["entities_text"] or "") == "; ".join(texts)
        assert re.findall(r'class="chip" style="[^"]*">(.*?) [\d.]+<', card) == labels
        ((kind, value),) = re.findall(r'class="([^"]*)"><span class="name">entities</span> <span[^>]*>(.*?)<', card)
        assert {*value.split(", ")} == ({f"{name} × {labels.count(name)}" for name in labels} or {"nothing"})
        assert ("withheld" in kind) == (bool(items) and all("abstained" in one for one in items))


def test_formulas_are_text_everywhere(classes: LoadedModel, tmp_path: Path) -> None:
    rows = [{"=x": "-5", "text": '=HYPERLINK("http://a.b","warm")'}, {"=x": "@SUM(1)", "text": "a cold one"}]
    for path in places(tmp_path, [".csv", ".tsv", ".xlsx"]):
        classes.write(rows, path)
        found = read(path)
        assert [row["'=x"] for row in found] == ["-5", "'@SUM(1)"]
        assert found[0]["text"] == "'" + rows[0]["text"]
    classes.write(rows, tmp_path / "a.parquet")
    assert [row["text"] for row in read(tmp_path / "a.parquet")] == [row["text"] for row in rows]


def test_columns_are_those_of_the_first_rows(classes: LoadedModel, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("polydetr.inference.writing.LOOKED_AT", 3)
    rows = [
        {"text": "a warm one"},
        {"text": "a cold one", "n": 1},
        *[{"text": "dull"}] * 3,
        {"text": "warm", "late": 2},
    ]
    with pytest.warns(WritingWarning, match=r"left out: 'late' \(first in row 6"):
        classes.write(rows, tmp_path / "a.csv")
    found = read(tmp_path / "a.csv")
    assert list(found[0])[:2] == ["text", "n"]
    assert [row["n"] for row in found] == [None, "1", None, None, None, None]


def test_other_names_are_refused_before_anything_is_read(classes: LoadedModel, tmp_path: Path) -> None:
    for name in ("answers.xls", "answers", "answers.json"):
        with pytest.raises(InputError, match=r"End the file's name in one of \.csv, \.tsv, \.parquet, \.xlsx, \.jsonl"):
            classes.write(tmp_path / "not there.csv", tmp_path / name)
    with pytest.raises(SaveError, match="there is no such folder"):
        classes.write(ROWS, tmp_path / "nowhere" / "a.csv")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("out", "html", "said"),
    [
        ("rows.csv", None, r"rows\.csv' is the file of the rows itself\. Name another file for --out\."),
        ("a/../rows.csv", None, "is the file of the rows itself"),
        ("link.csv", None, "is the file of the rows itself"),
        (None, "rows.csv", r"is the file of the rows itself\. Name another file for --html\."),
        ("a.csv", "a/../a.csv", r"is the file of the answers, too\. Name another file for --html\."),
    ],
)
def test_no_answers_take_the_place_of_the_rows_or_of_one_another(
    classes: LoadedModel, tmp_path: Path, out: str | None, html: str | None, said: str
) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text,note\na warm evening,mine\n")
    (tmp_path / "a").mkdir()
    (tmp_path / "link.csv").symlink_to(rows)
    with pytest.raises(InputError, match=said):
        classes.write(rows, out and tmp_path / out, html=html and tmp_path / html)
    assert rows.read_text() == "text,note\na warm evening,mine\n"
    assert not (tmp_path / "a.csv").exists()


@pytest.mark.skipif(os.name != "posix", reason="devices")
def test_of_streams_nothing_takes_the_place(classes: LoadedModel) -> None:
    check_outputs("/dev/null", "/dev/null", rows="/dev/null")
    check_outputs("a.csv", None, rows="no\0name")
    assert classes.write(ROWS, "/dev/null", html="/dev/null").answered == len(ROWS)


@pytest.mark.parametrize(("module", "extra"), [("openpyxl", "xlsx"), ("pyarrow", "parquet")])
def test_a_missing_package_is_named_before_any_work(
    module: str, extra: str, classes: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == module else find(name))
    with pytest.raises(SaveError, match=rf"{re.escape(pip_install(extra))}, or write \.csv"):
        classes.write(tmp_path / "not there.csv", tmp_path / f"a.{extra}")


def test_nothing_is_left_of_what_did_not_become_whole(classes: LoadedModel, tmp_path: Path) -> None:
    def rows():
        yield from ROWS
        raise OSError("the line went dead")

    for path in places(tmp_path, [*TABLES, ".jsonl"]):
        path.write_text("yesterday's")
        with pytest.raises(Exception, match="the line went dead"):
            classes.write(rows(), path, html=tmp_path / "page.html")
        assert path.read_text() == "yesterday's"
    assert {p.name for p in tmp_path.iterdir()} <= {f"answers{s}" for s in (*TABLES, ".jsonl")}


@pytest.mark.skipif(os.name != "posix", reason="named pipes")
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_goes_through_a_pipe(classes: LoadedModel, tmp_path: Path, suffix: str) -> None:
    pipe, kept = tmp_path / f"pipe{suffix}", tmp_path / f"kept{suffix}"
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: kept.write_bytes(pipe.read_bytes()))
    reader.start()
    classes.write(ROWS, pipe)
    reader.join(10)
    assert [row["id"] for row in read(kept)] == [row["id"] for row in ROWS]


@pytest.mark.skipif(os.name != "posix", reason="named pipes")
def test_a_reader_that_goes_away_is_an_error_that_says_so(classes: LoadedModel, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)

    def read_little() -> None:
        with pipe.open("rb") as stream:
            stream.read(1)

    reader = threading.Thread(target=read_little)
    reader.start()
    with pytest.raises(SaveError, match="Broken pipe"):
        classes.write([{"text": "warm", "note": "more than a pipe holds" * 5_000}] * 20, pipe)
    reader.join(10)


class Parts(HTMLParser):
    """The tags of a page, the addresses in it, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.addresses, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "srcset")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_nothing_and_runs_nothing(model: LoadedModel, tmp_path: Path) -> None:
    hostile = '<script src="https://evil.example/x.js"></script><img onerror=alert(1)>'
    rows = [*ROWS, {"text": "warm", hostile: f"{hostile}."}, {"text": "\x1b[31m\u202ewarm"}]
    model.write(rows, html=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    parts = Parts(page)
    assert not {"script", "iframe", "link", "object", "embed", "base", "form"} & set(parts.tags)
    assert all(address.startswith("data:") for address in parts.addresses)
    assert not re.search(r"url\(|@import", page)
    assert not re.search(r"<[^>]*\son\w+=", page)
    assert parts.text.count(hostile) == 2
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert parts.tags.count("article") == 14
    assert "14 rows, 14 answered." in parts.text


def test_the_page_marks_spans_and_names_classes(model: LoadedModel, tmp_path: Path) -> None:
    model.write(ROWS[:1], html=tmp_path / "page.html", options=Options(min_confidence=1.0))
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    (answer,) = model.predictions(ROWS[:1])
    spans = answer["entities"].value
    assert spans
    marked = re.search(r'<p class="words"[^>]*>(.*?)</p>', page, re.DOTALL)
    assert marked
    plain = re.sub(r'<span class="chip".*?</span>', "", marked[1])
    assert re.sub("<[^>]*>", "", plain) == ROWS[0]["text"]
    assert [re.sub("<[^>]*>", "", m) for m in re.findall("<mark.*?</mark>", plain)] == [s["text"] for s in spans]
    assert f"withheld, unsure {answer['label'].probability:.2f}" in page
    assert "label (given)" in page
    assert answer["label"].value in Parts(page).text


def test_the_page_ends_where_browsers_would(classes: LoadedModel, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(answers_page, "MOST_ROWS", 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReadingWarning)
        classes.write([*ROWS, {"txt": 1}], html=tmp_path / "page.html")
    text = Parts((tmp_path / "page.html").read_text(encoding="utf-8")).text
    assert "13 rows" in text
    assert "the first 3 are shown" in text


def test_boxes_are_drawn_on_the_page(tmp_path: Path) -> None:
    image = np.full((32, 32, 3), 90, dtype=np.uint8)
    rows = [{"photo": image, "objects": [{"box": [2, 2, 14, 14], "label": "lit"}]}] * 4
    settings = {
        "image": {"size": 32, "patch_size": 8},
        "tasks": {"objects": {"threshold": 0.0, "architecture": "detr"}},
    }
    engine = make_engine(rows, {"objects": "detection"}, inputs={"photo": "image"}, settings=settings)
    schema = infer_schema(rows, targets={"objects": "detection"}, inputs={"photo": "image"})
    model = LoadedModel(engine, {"schema": schema.to_dict()})
    model.write(rows[:1], tmp_path / "a.csv", html=tmp_path / "page.html")
    (source,) = Parts((tmp_path / "page.html").read_text(encoding="utf-8")).addresses
    assert source.startswith("data:image/jpeg;base64,")
    (row,) = read(tmp_path / "a.csv")
    boxes = json.loads(row["predicted_objects"])
    assert boxes[0]["label"] == "lit"
    assert row["objects_text"].startswith(f"lit {boxes[0]['probability']:.2f}")


def test_one_table_in_constant_memory(classes: LoadedModel, tmp_path: Path) -> None:
    """Rows are written while others are still to come."""
    taken = []

    def rows():
        for i in range(6000):
            taken.append(i)
            yield {"text": "a warm one"}

    seen = []
    classes.write(rows(), tmp_path / "a.csv", progress=lambda number: seen.append(len(taken) - number))
    assert len(seen) == 6000
    assert max(seen) < 5000
