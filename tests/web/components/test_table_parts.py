"""What the table, the file drop and the progress compute without a browser."""

from __future__ import annotations

import pytest

from polydetr.web.components.drop import in_bytes
from polydetr.web.components.progress import in_time, time_left
from polydetr.web.components.table import grid_texts, rows_in
from polydetr.web.words import Words


@pytest.mark.parametrize(
    ("ranges", "rows"),
    [("", []), ("1-3", [1, 2, 3]), ("3,1-2", [3, 1, 2]), ("5", [5])],
    ids=["none", "all", "order", "one"],
)
def test_rows_come_in_the_order_in_which_they_are_shown(ranges: str, rows: list[int]) -> None:
    assert rows_in(ranges, 5) == rows


@pytest.mark.parametrize("ranges", ["0", "6", "2-1", "1-3,2", "a", "1-", "-1", "1,1", "1-999999999999"])
def test_what_names_no_rows_is_refused(ranges: str) -> None:
    with pytest.raises(ValueError, match=r"row|int"):
        rows_in(ranges, 5)


def test_the_time_left_follows_the_pace_so_far() -> None:
    assert time_left(0.25, 10.0) == pytest.approx(30.0)
    assert time_left(1.0, 10.0) == 0.0
    assert [time_left(share, 10.0) for share in (None, 0.0, 0.001, 1.5)] == [None] * 4
    assert time_left(0.5, 0.0) is None


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "1 s"), (7.4, "7 s"), (43, "45 s"), (200, "3 min"), (9000, "2 h")]
)  # fmt: skip
def test_a_time_is_told_as_exactly_as_it_is_known(seconds: float, said: str) -> None:
    assert in_time(Words("en"), seconds) == said


def test_a_size_is_told_in_the_largest_unit() -> None:
    assert [in_bytes(size) for size in (12, 4096, 512 << 20, 3 << 30)] == ["12 bytes", "4 KB", "512 MB", "3 GB"]


def test_the_grid_speaks_the_words_of_the_pages() -> None:
    english, chinese = grid_texts(Words("en")), grid_texts(Words("zh"))
    assert english.keys() == chinese.keys()
    assert chinese["contains"] == "包含"
    assert not [name for name in english if english[name] == chinese[name]]
