"""Dates as spreadsheets and databases write them beside the usual forms, which ``test_cells`` has."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from polydetr.errors import RowError
from polydetr.values.dates import day_order, read_date


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("3/9/24", dt.datetime(2024, 3, 9)), ("09.03.98", dt.datetime(1998, 3, 9)),
        ("09-Mar-24", dt.datetime(2024, 3, 9)), ("3/9/24 14:05", dt.datetime(2024, 3, 9, 14, 5)),
        (20240309, dt.datetime(2024, 3, 9)), (20240309.0, dt.datetime(2024, 3, 9)),
        (np.int64(20240309), dt.datetime(2024, 3, 9)),
    ],
)  # fmt: skip
def test_short_years_and_whole_numbers(value: object, moment: dt.datetime) -> None:
    assert read_date(value, column="x") == moment


@pytest.mark.parametrize("value", [7, 2024, 20241340, 1706700000, True, "3/9.24", "3/9/224", "1.2.3"])
def test_other_numbers_are_no_dates(value: object) -> None:
    with pytest.raises(RowError, match="is not a date"):
        read_date(value, column="x")


def test_the_order_of_day_and_month_is_told_by_short_years_too() -> None:
    assert day_order(["31/1/24", "1/31/24", "2/3/24", "2/2/24"]) == (1, 1, 1)
