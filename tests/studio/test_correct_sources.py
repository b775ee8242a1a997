"""Rows that are brought to the page Correct."""

from __future__ import annotations

from pathlib import Path

import pytest
from correction_cases import BOXES, CLASSES, NUMBER, image_bytes
from starlette.datastructures import QueryParams

from polydetr.errors import InputError, RowError
from polydetr.serving.refusal import Refused
from polydetr.serving.rows import Columns
from polydetr.studio import correct_sources
from polydetr.studio.correct_address import Place, page_of
from polydetr.studio.correct_sources import LONGEST, corrected_rows, merged, rows_of_file, rows_of_lines, suffixes
from polydetr.studio.corrections import Corrections
from polydetr.studio.handed_rows import MOST_ROWS
from polydetr.web.store.database import Database


def test_lines_are_rows_and_empty_ones_are_none() -> None:
    rows = rows_of_lines(CLASSES, "one\r\n\n  \ntwo <b>😀\n", "Ada")
    assert [dict(item) for item in rows.items if not isinstance(item, RowError)] == [
        {"text": "one"},
        {"text": "two <b>😀"},
    ]
    assert not rows.messages
    with pytest.raises(InputError, match="no text"):
        rows_of_lines(CLASSES, " \n", "Ada")


def test_what_is_longer_than_a_browser_lets_be_written_is_told() -> None:
    (told,) = rows_of_lines(CLASSES, "😀" * (LONGEST // 2), "Ada").messages
    assert "first 400,000 characters" in told


def test_a_file_has_its_rows_and_what_cannot_be_read_has_a_reason() -> None:
    rows = rows_of_file(CLASSES, "a.jsonl", b'{"text": "one"}\nnot json\n{"text": "two"}\n', "Ada")
    assert [isinstance(item, RowError) for item in rows.items] == [False, True, False]
    csv = rows_of_file(NUMBER, "a.CSV", b"text,minutes\none,3\n", "Ada")
    assert [dict(item) for item in csv.items if not isinstance(item, RowError)] == [{"text": "one", "minutes": "3"}]


def test_an_image_is_a_row_where_the_model_reads_one_image() -> None:
    rows = rows_of_file(BOXES, "photo.PNG", image_bytes(), "Ada")
    assert rows.items[0] == {"image": image_bytes()}  # type: ignore[comparison-overlap]
    assert ".png" in suffixes(Columns.of(BOXES))
    assert ".png" not in suffixes(Columns.of(CLASSES))
    assert len(merged([rows, rows]).items) == 2


def test_other_files_are_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"report.pdf"):
        rows_of_file(CLASSES, "report.pdf", b"%PDF", "Ada")
    with pytest.raises((InputError, Refused)):
        rows_of_file(CLASSES, "a.csv", b"", "Ada")
    with pytest.raises(Refused):
        rows_of_file(CLASSES, "a.parquet", b"PAR1 no PAR1", "Ada")


def test_a_long_file_gives_its_first_rows_and_says_so() -> None:
    content = b"text\n" + b"".join(b"row %d\n" % i for i in range(MOST_ROWS + 5))
    rows = rows_of_file(CLASSES, "a.csv", content, "Ada")
    assert len(rows.items) == MOST_ROWS
    assert "first 5,000" in rows.messages[0]


def test_several_files_are_cut_with_a_word_and_what_failed_is_told() -> None:
    half = rows_of_file(CLASSES, "a.csv", b"text\n" + b"".join(b"row %d\n" % i for i in range(3_000)), "Ada")
    found = merged([half, half], ["b.pdf is no file"])
    assert len(found.items) == MOST_ROWS
    assert found.messages == ("b.pdf is no file", "only the first 5,000 rows are taken")
    assert merged([half]).messages == ()


def test_corrected_rows_are_the_newest_and_the_one_that_was_clicked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correct_sources, "MOST_ROWS", 2)
    corrections = Corrections(Database.open(tmp_path / "store.db"))
    saved = [
        corrections.save(
            id=f"0000000{i}", info=CLASSES, row={"text": f"row {i}"}, target="label", value="good", person="Ada"
        ).correction
        for i in range(4)
    ]
    rows, (told,) = corrected_rows(corrections, "model", "")
    assert rows == [{"text": "row 3"}, {"text": "row 2"}]
    assert told == "only the newest 2 corrections are shown"
    assert corrected_rows(corrections, "model", saved[3].row_key)[0] == rows
    assert corrected_rows(corrections, "model", saved[0].row_key)[0] == [*rows, {"text": "row 0"}]
    assert corrected_rows(corrections, "model", "no such key")[0] == rows
    corrections.undo(saved[1].id, "Ada")
    assert corrected_rows(corrections, "model", saved[1].row_key)[0][-1] == {"text": "row 1"}


def test_a_file_in_the_encoding_of_china_is_read() -> None:
    rows = rows_of_file(CLASSES, "a.csv", "text\n服务很好\n".encode("gbk"), "Ada")
    assert rows.items[0] == {"text": "服务很好"}  # type: ignore[comparison-overlap]


def test_an_address_says_what_is_shown_and_nothing_else() -> None:
    place = Place.of(QueryParams("view=list&person=Ada&kind=nonsense&page=x&other=1"))
    assert place == Place(view="list", person="Ada")
    assert place.query(page=2) == "?view=list&person=Ada&page=2"
    assert Place().query() == ""
    assert Place().begins
    assert page_of("a/b ?") == "/a%2Fb%20%3F/correct"
