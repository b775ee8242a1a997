"""Files that are dropped: kinds, encodings, names; and the files that answers are saved as."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import openpyxl
import pyarrow.parquet as pq
import pytest

from polydetr.serving.answered_rows import AnsweredRows
from polydetr.serving.contract import Ask
from polydetr.serving.jobs import Job
from polydetr.serving.refusal import Refused
from polydetr.serving.rows import Columns
from polydetr.studio.batch_files import downloads, file_stem, kind_of, likely_encoding, look_at, plain_name
from polydetr.studio.batch_saved import TYPES, saved

COLUMNS = Columns(("text",), ("label",), ("text",), frozenset(), frozenset())
CHINESE = "标题,文本\n一,这部电影真好看\n二,今天天气不错，我们去公园\n"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.CSV", "csv"),
        ("x/y.tsv", "tsv"),
        ("a.b.ndjson", "jsonl"),
        ("a.zip", "zip"),
        ("a.json", "json"),
        ("a.bio", "conll"),
    ],
)
def test_the_kind_stands_in_the_name(name: str, kind: str) -> None:
    assert kind_of(name) == kind


@pytest.mark.parametrize("name", ["a.exe", "csv", "", "a.html", "a.csv.gz"])
def test_other_kinds_are_refused_by_name(name: str) -> None:
    with pytest.raises(Refused, match="is of no kind that is read"):
        kind_of(name)


@pytest.mark.parametrize(
    ("encoding", "likely"),
    [("utf-8", None), ("utf-8-sig", None), ("utf-16", None), ("gb18030", "gb18030"), ("big5", "big5")],
)
def test_the_encoding_is_the_likely_one(tmp_path: Path, encoding: str, likely: str | None) -> None:
    path = tmp_path / "rows.csv"
    text = CHINESE if encoding != "big5" else "標題,文本\n一,這部電影真好看\n二,今天天氣不錯\n"
    path.write_bytes(text.encode(encoding))
    assert likely_encoding(path) == likely


def test_bytes_that_are_no_utf8_are_found_behind_the_first_million(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"text\n" + "é\n".encode() * 700_000 + "今天天气不错，我们去公园\n".encode("gbk"))
    assert likely_encoding(path) == "gb18030"


def test_a_look_at_the_file_says_how_it_is_read(tmp_path: Path) -> None:
    job = Job("id", "person:", "m", "conll", "", Ask(), tmp_path)
    job.rows.parent.mkdir()
    job.rows.write_bytes("欧盟 B-ORG\n拒绝 O\n\n彼得 B-PER\n".encode("gbk"))
    look_at(job, Columns(("tokens",), ("tags",), (), frozenset(), frozenset()))
    assert job.reading.encoding == job.facts["encoding"] == "gb18030"
    assert job.labels


@pytest.mark.parametrize(
    ("name", "plain", "stem"),
    [
        ("C:\\data\\a b.csv", "a b.csv", "a_b"),
        ("../../etc/passwd.csv", "passwd.csv", "passwd"),
        ('<img src=x onerror="x">.csv', '<img src=x onerror="x">.csv', "_img_src_x_onerror__x__"),
        ("\u202egnp.csv\r\n", "gnp.csv", "gnp"),
        ("评论.csv", "评论.csv", "评论"),
        ("", "rows", "rows"),
    ],
)
def test_names_of_files_are_safe(name: str, plain: str, stem: str) -> None:
    assert plain_name(name) == plain
    assert file_stem(plain) == stem


@pytest.fixture
def rows(tmp_path: Path) -> AnsweredRows:
    kept = AnsweredRows(tmp_path / "rows")
    with kept.open():
        for number, text in enumerate(["=1+2", "<b>", "x"], start=1):
            cells = {"predicted_label": "good", "label_confidence": 0.5, "warnings": None, "error": None}
            answer = {"row": number, "prediction": {"label": "good"}, "cells": cells}
            kept.write([{"text": text, "label": "bad"} | ({"late": number} if number == 3 else {})], [answer])
    return kept


EXPECTED = [["'=1+2", "bad", "", "good"], ["<b>", "bad", "", "good"], ["x", "bad", "3", "good"]]


@pytest.mark.parametrize("suffix", downloads())
def test_every_format_has_the_rows_with_their_answers(rows: AnsweredRows, suffix: str) -> None:
    path = saved(rows, COLUMNS, suffix)
    try:
        head, *found = read(path)
    finally:
        path.unlink()
    if suffix == ".jsonl":
        assert [json.loads(line) for line in [head, *found]] == [
            {"row": n, "prediction": {"label": "good"}} for n in (1, 2, 3)
        ]
        return
    assert head == ["text", "label", "late", "predicted_label", "label_confidence", "warnings", "error"]
    expected = [["=1+2", *EXPECTED[0][1:]], *EXPECTED[1:]] if suffix == ".parquet" else EXPECTED
    assert [[str(cell or "") for cell in row[:4]] for row in found] == expected


def test_those_that_are_shown_come_in_their_order(rows: AnsweredRows) -> None:
    path = saved(rows, COLUMNS, ".csv", only=[3, 1])
    _, *found = read(path)
    path.unlink()
    assert [row[0] for row in found] == ["x", "'=1+2"]


def test_every_format_has_a_content_type() -> None:
    assert set(downloads()) == set(TYPES)


def read(path: Path) -> list:
    if path.suffix == ".xlsx":
        return [list(row) for row in openpyxl.load_workbook(path).active.iter_rows(values_only=True)]
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return [table.column_names, *([*row.values()] for row in table.to_pylist())]
    if path.suffix == ".jsonl":
        return path.read_text("utf-8").splitlines()
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ","))
