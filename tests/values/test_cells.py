"""Cells: numbers, categories and dates, read however a source writes them."""

from __future__ import annotations

import datetime as dt
import math
import time
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polydetr.errors import RowError
from polydetr.values.cells import (
    SemicolonCell,
    decimal_marks,
    is_missing,
    read_category,
    read_number,
    says_missing,
    words_are_missing,
)
from polydetr.values.dates import day_order, read_date


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (3, 3.0), (2.5, 2.5), (True, 1.0), (Decimal("1.5"), 1.5), (Fraction(1, 4), 0.25),
        (np.float32(0.5), 0.5), (np.int16(-7), -7.0), (np.bool_(False), 0.0),
        ("1,234.5", 1234.5), ("1 234", 1234.0), ("1\u202f234,567", 1234567.0), ("1'234'567.5", 1234567.5),
        ("12,34,567", 1234567.0), ("12%", 0.12), ("$3.50", 3.5), ("-$3", -3.0), ("€ 5", 5.0), ("5 USD", 5.0),
        ("(1,234)", -1234.0), ("\u22125", -5.0), ("１２", 12.0), ("1e-3", 0.001), (" .5 ", 0.5), ("+7", 7.0),
        ("true", 1.0), ("False", 0.0), ("1_000", 1000.0), ("1_234_567", 1234567.0), ("0950", 950.0),
        (dt.timedelta(minutes=2), 120.0), (np.timedelta64(1500, "ms"), 1.5), (pd.Timedelta("1h"), 3600.0),
        (dt.time(1, 2, 3), 3723.0), ("1:02:03", 3723.0), ("13:45", 49500.0), ("1:45 pm", 49500.0),
        ("1 days 00:00:30", 86430.0),
    ],
)  # fmt: skip
def test_a_number_is_read_however_it_is_written(value: object, number: float) -> None:
    assert read_number(value, column="x") == pytest.approx(number, rel=1e-12)


@pytest.mark.parametrize(
    "value",
    [None, math.nan, np.float64("nan"), Decimal("NaN"), pd.NA, pd.NaT, "", "  ", "n/a", "N/A", "NA", "null", "NULL",
     "-", "—", "nan", "None", "#N/A", "?"],
)  # fmt: skip
def test_the_na_family_is_missing_in_numbers_and_dates(value: object) -> None:
    assert read_number(value, column="x") is None
    assert read_number(value, column="x", comma=True) is None
    assert read_date(value, column="x") is None


@pytest.mark.parametrize(
    "value",
    ["abc", "12 kg", "--3", "1,23", "0,512", "3_14", "31_4", "12:60", "1:2", "1.2.3",
     "1,2345", "$", "12%%", [1], {"a": 1}, b"12", 1j, Decimal("sNaN"),
     dt.date(2024, 1, 1), "1\n2", "5²", "x₂", "①"],
)  # fmt: skip
def test_what_is_no_number_is_named_with_its_column(value: object) -> None:
    with pytest.raises(RowError, match="is not a number") as caught:
        read_number(value, column="price")
    assert caught.value.location is not None
    assert caught.value.location.column == "price"
    assert repr(value)[:70] in caught.value.message
    assert "'category'" in (caught.value.hint or "")


@pytest.mark.parametrize("value", [math.inf, -math.inf, "inf", "-Infinity", "1e999", 10**400, np.float32("inf"), "∞"])
def test_an_infinite_number_is_refused_with_a_way_out(value: object) -> None:
    with pytest.raises(RowError, match="is infinite") as caught:
        read_number(value, column="x")
    assert "Leave the cell empty" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2024-01-31", dt.datetime(2024, 1, 31)), ("2024-01-31T10:30:00Z", dt.datetime(2024, 1, 31, 10, 30)),
        ("2024-01-31 10:30:15+02:00", dt.datetime(2024, 1, 31, 10, 30, 15)), ("2024/1/5", dt.datetime(2024, 1, 5)),
        ("2024年1月31日", dt.datetime(2024, 1, 31)), ("2024-03", dt.datetime(2024, 3, 1)),
        ("31.01.2024", dt.datetime(2024, 1, 31)), ("01/31/2024", dt.datetime(2024, 1, 31)),
        ("31 Jan 2024", dt.datetime(2024, 1, 31)), ("January 31st, 2024 5:30 PM", dt.datetime(2024, 1, 31, 17, 30)),
        ("20240131", dt.datetime(2024, 1, 31)), (dt.date(2024, 1, 31), dt.datetime(2024, 1, 31)),
        (dt.datetime(2024, 1, 31, 4), dt.datetime(2024, 1, 31, 4)),
        (pd.Timestamp("2024-01-31 04:05", tz="Asia/Tokyo"), dt.datetime(2024, 1, 31, 4, 5)),
        (np.datetime64("2024-01-31"), dt.datetime(2024, 1, 31)),
    ],
)  # fmt: skip
def test_a_date_is_read_however_it_is_written(value: object, moment: dt.datetime) -> None:
    assert read_date(value, column="x") == moment


@pytest.mark.parametrize("value", ["soon", "2024-02-31", "31/01/2024", 20240131.5, "12:30", ["2024-01-01"]])
def test_what_is_no_date_is_named(value: object) -> None:
    with pytest.raises(RowError, match="is not a date") as caught:
        read_date(value, column="when")
    assert caught.value.location is not None
    assert caught.value.location.column == "when"


@pytest.mark.parametrize("value", [3, 3.0, "3", " 3 ", "3.0", "3.00", np.int64(3), np.float32(3)])
def test_one_category_however_it_is_written(value: object) -> None:
    assert read_category(value, column="x") == "3"


@pytest.mark.parametrize("value", [True, "true", "TRUE", " True", np.bool_(True)])
def test_one_truth_value_however_it_is_written(value: object) -> None:
    assert read_category(value, column="x") == "True"


@pytest.mark.parametrize("name", ["1.10", "3.000", "03.0", "1_12", "T", "truely", "-"])
def test_other_names_stay_as_they_are_written(name: str) -> None:
    assert read_category(name, column="x") == name


def test_words_for_missing_are_no_names_among_numbers() -> None:
    assert words_are_missing(["0", "1", "NA"])
    assert words_are_missing(["True", "False", "null"])
    assert not words_are_missing(["0", "1", "high", "NA"])
    assert not words_are_missing(["NA", "none"])


def test_categories_keep_na_and_refuse_lists() -> None:
    assert read_category("NA", column="x") == "NA"
    assert read_category(True, column="x") == "True"
    assert [read_category(v, column="x") for v in (None, math.nan, " ", pd.NA)] == [None] * 4
    with pytest.raises(RowError, match=r"\['a'\] is list, expected a category"):
        read_category(["a"], column="x")


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=20), st.booleans())
def test_any_text_is_a_number_or_missing_or_named(text: str, comma: bool) -> None:
    for read in (lambda: read_number(text, column="x", comma=comma), lambda: read_date(text, column="x")):
        found, named = None, "x"
        try:
            found = read()
        except RowError as error:
            named = error.location.column if error.location else None
        assert named == "x"
        assert not isinstance(found, float) or math.isfinite(found)


def test_a_whole_text_in_a_number_or_date_column_is_refused_at_once() -> None:
    text = "1 " * 100_000
    for read in (read_number, read_date):
        started = time.perf_counter()
        with pytest.raises(RowError, match="is not a"):
            read(text + "x", column="x")
        assert time.perf_counter() - started < 1
    assert decimal_marks([text]) == (0, 0, 0, 0)
    assert day_order([text]) == (0, 0, 0)


@given(st.floats(-1e15, 1e15), st.integers(0, 4))
def test_separators_do_not_change_a_number(number: float, digits: int) -> None:
    plain = float(f"{number:.{digits}f}")
    english = f"{number:,.{digits}f}"
    german = english.translate(str.maketrans(",.", ".,"))
    assert read_number(english, column="x") == plain
    assert read_number(english.replace(",", " "), column="x") == plain
    assert read_number(german, column="x", comma=True) == plain


def test_missing_is_told_from_values_and_from_words_for_it() -> None:
    for value in (None, float("nan"), np.float32("nan"), Decimal("NaN"), pd.NaT, pd.NA, np.datetime64("NaT"), "", " "):
        assert is_missing(value)
        assert says_missing(value)
    for value in (0, 0.0, False, "0", [], "n/a", " NA "):
        assert not is_missing(value)
    assert [says_missing(v) for v in ("n/a", " NA ", "-", "nan", "0", "no")] == [True] * 4 + [False] * 2


def test_a_column_writes_commas_where_more_cells_need_one() -> None:
    assert decimal_marks(["3,14", "1.000", None]).comma
    assert not decimal_marks(["3.14", "1,000"]).comma
    assert not decimal_marks(["3,14", "3.14"]).comma
    assert not decimal_marks([]).comma


def test_a_slip_among_thousands_does_not_make_a_decimal_comma() -> None:
    thousands = [f"{n:,}" for n in range(1200, 5000, 100)]
    assert not decimal_marks([*thousands, "47,11"]).comma
    assert decimal_marks([*thousands, "47,11", "3,5", "0,75", "1,5", "2,25", "8,1"]).comma
    assert decimal_marks([f"0,{n}" for n in range(100, 140)]).comma  # no group of thousands begins with 0


def test_a_file_of_semicolons_writes_decimals_with_a_comma() -> None:
    cells = ["1,234", "2,500", "17,031"]
    assert not decimal_marks(cells).comma
    assert "in two ways" in decimal_marks(cells).message("price")
    assert decimal_marks(map(SemicolonCell, cells)).comma
    assert not decimal_marks([*map(SemicolonCell, cells), "1,234.50", "7.5", "8.25", "9.5"]).comma
    assert not decimal_marks([*cells, "999", "12"]).message("price")
