"""Rows kept with their replies: read part by part, also while more are written."""

from __future__ import annotations

from pathlib import Path

from polydetr.errors import RowError
from polydetr.serving.answered_rows import AnsweredRows, rows_of
from polydetr.serving.rows import Columns

COLUMNS = Columns(("text", "photo"), ("label",), ("text",), frozenset({"photo"}), frozenset())


def written(path: Path, count: int, *, text: str = "row") -> AnsweredRows:
    rows = AnsweredRows(path)
    with rows.open():
        for number in range(1, count + 1):
            rows.write([{"text": f"{text} {number}"}], [{"row": number, "prediction": {"label": "a"}}])
    return rows


def test_rows_are_read_part_by_part_by_their_numbers(tmp_path: Path) -> None:
    rows = written(tmp_path / "rows", 7)
    assert [row.reply["row"] for row in rows.read(3, 2)] == [3, 4]
    assert [row.reply["row"] for row in rows.read(6, 100)] == [6, 7]
    assert rows.read(8, 1) == rows.read(0, 1) == rows.read(1, 0) == []
    assert [row.row for row in rows.all()] == [{"text": f"row {n}"} for n in range(1, 8)]
    assert list(rows_of(rows.path)) == list(rows.all())


def test_rows_are_there_for_a_reader_while_more_are_written(tmp_path: Path) -> None:
    rows = AnsweredRows(tmp_path / "rows")
    with rows.open():
        for number in (1, 2, 3):
            rows.write([{"text": "ü" * number}], [{"row": number}])
            assert [row.row for row in rows.read(1, 10)] == [{"text": "ü" * n} for n in range(1, number + 1)]
            assert rows.size == rows.path.stat().st_size


def test_images_come_back_as_they_were_and_a_row_that_was_none_is_an_error(tmp_path: Path) -> None:
    rows = AnsweredRows(tmp_path / "rows")
    with rows.open():
        items = [{"text": "a\nb", "photo": b"\x89PNG\x00"}, RowError("no row")]
        rows.write(items, [{"row": 1}, {"row": 2, "error": {"message": "no row"}}])
    first, second = rows.read(1, 2)
    assert first.item(COLUMNS) == {"text": "a\nb", "photo": b"\x89PNG\x00"}
    assert isinstance(second.item(COLUMNS), RowError)
    assert list(rows.names) == ["text", "photo"]


def test_of_long_rows_fewer_are_read_at_once_and_none_is_left_out(tmp_path: Path) -> None:
    rows = written(tmp_path / "rows", 6, text="x" * (3 << 20))
    found = []
    while part := rows.read(len(found) + 1, 100):
        assert len(part) < 6
        found += [row.reply["row"] for row in part]
    assert found == [1, 2, 3, 4, 5, 6]
