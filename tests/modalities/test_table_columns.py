"""Columns: what each learns from its cells, and how it then reads one."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from polydetr.config.sections import TableConfig
from polydetr.errors import RowError, SchemaError
from polydetr.modalities.table_columns import (
    MISSING,
    PRESENT,
    RARE,
    UNSEEN,
    CategoryColumn,
    DateColumn,
    NumberColumn,
)
from polydetr.modalities.table_scale import Scale
from polydetr.modalities.table_state import column_state, columns_from_state
from polydetr.values.cells import decimal_marks


def learn(kind: Any, values: list[Any], **settings: Any) -> tuple[Any, list[str]]:
    notes: list[str] = []
    return kind.learn("x", values, TableConfig(**settings), notes.append), notes


def test_a_decimal_comma_is_found_out_for_the_whole_column() -> None:
    assert decimal_marks(["1.234,5", "0,5", "3,14", "1,234", "12", "1.234", 5.0, None]) == (3, 0, 2, 1)
    assert decimal_marks(["1,234.5", "0.5", "1,234", "12"]) == (0, 2, 1, 1)
    column, notes = learn(NumberColumn, ["1.234,5", "0,5", "7", "1.000"], numbers="standard")
    assert column.comma
    assert notes == ["column 'x' writes decimals with a comma (1.234,5)"]
    assert (column.scale.low, column.scale.high) == (0.5, 1234.5)
    assert column.cell("1.000").numbers == column.cell(1000).numbers  # no thousandth part
    with pytest.raises(RowError, match=r"'1,000\.5' is not a number \(the training rows .* with a comma\)"):
        column.cell("1,000.5")
    point, notes = learn(NumberColumn, ["1,234.5", "0.5", "0,7"])
    assert not point.comma
    assert not notes


def test_day_and_month_are_distinguished_by_the_whole_column() -> None:
    column, notes = learn(DateColumn, ["31/01/2024", "05/06/2024", "07/08/2023"])
    assert column.day_first
    assert not notes
    assert column.cell("05/06/2024").numbers == column.cell("2024-06-05").numbers
    column, notes = learn(DateColumn, ["31/01/2024", "01/31/2024", "02/28/2024"])
    assert not column.day_first
    assert "mixes day/month/year (1) and month/day/year (2)" in notes[0]
    _, notes = learn(DateColumn, ["03/04/2024", "05/05/2024"])
    assert "can be read in two ways: 3/4/2024 is taken for March 4th" in notes[0]
    assert not learn(DateColumn, ["03.04.2024", "2024-05-06"])[1]
    assert not learn(DateColumn, ["03/04/2024", "05/31/2024"])[1]


def test_the_parts_of_a_date_are_a_year_and_four_circles() -> None:
    column, _ = learn(DateColumn, ["2020-01-01", "2024-01-01"])
    year, *waves = column.cell("2022-04-01 06:00").numbers
    assert year == pytest.approx(0.125, abs=0.01)
    turns = [3 / 12, 0, 4 / 7, 6 / 24]  # April, the first, a Friday, six o'clock
    expected = [wave(2 * math.pi * turn) for turn in turns for wave in (math.sin, math.cos)]
    assert waves == pytest.approx(expected, abs=1e-12)
    far = column.cell("2090-01-01")
    assert far.finding is not None
    assert far.finding.kind == "out_of_range"
    assert "between the years 2020.0 and 2024.0" in far.finding.message
    assert far.numbers[0] == pytest.approx(2.0)  # clipped to 2026


def test_a_category_column_knows_frequent_rare_and_new_names() -> None:
    column, notes = learn(CategoryColumn, ["b", "a", "b", "c", None, "a", "b"])
    assert not notes
    assert column.names == ("b", "a")
    codes = {value: column.cell(value).code for value in ("b", "a", "c", "d", None)}
    assert codes == {"b": RARE + 1, "a": RARE + 2, "c": RARE, "d": UNSEEN, None: MISSING}
    assert column.num_codes == RARE + 2
    finding = learn(CategoryColumn, ["Paris"] * 2 + ["Rome"] * 2)[0].cell("Pariss").finding
    assert (finding.kind, finding.column) == ("unseen_category", "x")
    assert finding.message == (
        "'Pariss' in column 'x' is none of the 2 categories of the training rows. Did you mean 'Paris'?"
    )


def test_a_column_of_a_million_names_is_capped() -> None:
    values = [*range(1_000_000), *["often"] * 3, *["twice"] * 2]
    column, notes = learn(CategoryColumn, values, max_categories=1)
    assert column.names == ("often",)
    assert "has 1000002 categories: the 1 most frequent are told apart" in notes[0]
    assert len(json.dumps(column_state(column))) < 200  # the million is not kept
    assert column.cell("twice").code == column.cell("never met").code == RARE
    assert column.cell("never met").finding is None
    column, notes = learn(CategoryColumn, list(range(50)))
    assert column is None
    assert notes == ["column 'x' is left out: each of its 50 categories occurs only once"]


@pytest.mark.parametrize("kind", [NumberColumn, CategoryColumn, DateColumn])
def test_empty_and_constant_columns_are_left_out(kind: Any) -> None:
    column, notes = learn(kind, [None, "", math.nan])
    assert column is None
    assert notes == ["column 'x' is left out: it is empty in all 3 training rows"]
    same = "2024-01-01" if kind is DateColumn else "7"
    column, notes = learn(kind, [same] * 4)
    assert column is None
    assert "in all 4 training rows" in notes[0]
    column, _ = learn(kind, [same] * 4 + [None])  # whether it is there may say something
    assert column.cell(same).code != column.cell(None).code
    assert all(number == 0 for number in column.cell(same).numbers[:1])


def test_a_column_of_words_is_no_number_column() -> None:
    with pytest.raises(
        SchemaError, match=r"read as number, and none of its values is one\. The first: 'red'"
    ) as caught:
        learn(NumberColumn, ["red", None, "blue"])
    assert "'category'" in (caught.value.hint or "")


def test_unreadable_values_teach_nothing_and_are_named_where_they_stand() -> None:
    column, _ = learn(NumberColumn, [1, 2, 3, "abc", math.inf, None], numbers="standard")
    assert (column.scale.low, column.scale.high, column.scale.mean) == (1, 3, pytest.approx(2))
    with pytest.raises(RowError, match="'abc' is not a number"):
        column.cell("abc")


def test_standardised_numbers_and_their_limits() -> None:
    column, _ = learn(NumberColumn, [0, 10, "5", 5.0], numbers="standard")
    std = math.sqrt(12.5)
    assert column.cell(10).numbers[0] == pytest.approx(5 / std)
    assert column.cell(14.9).finding is None  # half the range beyond is nothing special
    far = column.cell(1e6)
    assert far.numbers[0] == pytest.approx(10 / std)  # clipped to 15
    assert far.finding.kind == "out_of_range"
    assert "1e+06 in column 'x' is far outside the training rows, which lie between 0 and 10" in far.finding.message
    assert "read as 15" in far.finding.message
    missing = column.cell("n/a")
    assert (missing.code, missing.numbers, missing.finding.kind) == (MISSING, (), "missing")


def test_quantiles_make_a_skewed_column_normal() -> None:
    values = np.exp(np.random.default_rng(3).normal(size=4001) * 3).tolist()
    column, _ = learn(NumberColumn, values, numbers="quantile")
    read = np.array([column.cell(v).numbers[0] for v in values])
    assert abs(read.mean()) < 0.02
    assert read.std() == pytest.approx(1, abs=0.02)
    assert np.all(np.diff(read[np.argsort(values)]) >= 0)  # order is kept
    assert abs(column.cell(np.median(values)).numbers[0]) < 0.01


def test_ties_take_the_middle_of_their_ranks() -> None:
    column, _ = learn(NumberColumn, [0] * 50 + [1] * 50, numbers="quantile")
    zero, one = (column.cell(v).numbers[0] for v in (0, 1))
    assert zero == pytest.approx(-one)
    assert one == pytest.approx(0.6745, abs=0.02)  # the quartile of the normal distribution


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=150, deadline=None)
@given(values=st.lists(FINITE, min_size=1, max_size=12), new=FINITE, quantile=st.booleans())
@example(values=[1.7e308, -1.7e308], new=1.7e308, quantile=False)
@example(values=[0.0, 5e-324], new=-1.7e308, quantile=True)
@example(values=[1e16, 1e16 + 2], new=0.0, quantile=False)
def test_any_finite_float_is_read_and_stays_finite(values: list[float], new: float, quantile: bool) -> None:
    scale = Scale.learn(values, quantile=quantile)
    column = NumberColumn("x", scale)
    (loaded,) = columns_from_state([json.loads(json.dumps(column_state(column)))])
    for value in (*values, new):
        cell = column.cell(value)
        assert cell.code == PRESENT
        assert np.isfinite(np.float32(cell.numbers[0]))
        assert loaded.cell(value) == cell
    for value in values:
        assert column.cell(value).finding is None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e12, 1e12), min_size=2, max_size=30, unique=True))
@example([0.0, 5e-324])
def test_a_standardised_column_round_trips(values: list[float]) -> None:
    scale = Scale.learn(values, quantile=False)
    back = [scale.mean + scale.std * scale.apply(v) for v in values]
    spread = max(values) - min(values)
    # Less, and the mean cannot be told from its rounding, or the std is at the end of what a float can hold.
    if spread > max(1e-9 * max(map(abs, values)), 1e-300):
        assert back == pytest.approx(values, abs=1e-6 * spread)


def test_the_smallest_floats_do_no_harm_where_they_count_as_zero() -> None:
    torch.set_flush_denormal(True)
    try:
        for values in ([0.0, 5e-324], [5e-324, 1e-310], [1e-310, 1.0]):
            scale = Scale.learn(values, quantile=False)
            assert all(math.isfinite(scale.apply(value)) for value in (*values, 1e308))
    finally:
        torch.set_flush_denormal(False)


def test_states_of_all_kinds_round_trip() -> None:
    made = [
        learn(NumberColumn, ["1,5", "2,5", "4,75"], numbers="quantile")[0],
        learn(CategoryColumn, ["é", "é", "b", "b", "c"])[0],
        learn(DateColumn, ["13/01/2024", "01/02/2024"])[0],
    ]
    for column in made:
        assert columns_from_state([json.loads(json.dumps(column_state(column)))]) == [column]


def test_columns_saved_under_the_longer_name_are_read() -> None:
    column = NumberColumn("n", Scale(1.0, 2.0, 0.0, 3.0))
    state = column_state(column)
    state["scale"]["deviation"] = state["scale"].pop("std")
    assert columns_from_state([json.loads(json.dumps(state))]) == [column]


def test_a_category_is_one_however_it_is_written() -> None:
    column, _ = learn(CategoryColumn, ["3", "4", "3", "4"])
    assert len({column.cell(value).code for value in (3, 3.0, "3", "3.0", np.int64(3))}) == 1
    flags, _ = learn(CategoryColumn, ["TRUE", "FALSE"] * 3)
    assert flags.names == ("False", "True")
    assert flags.cell(True) == flags.cell("true") == flags.cell("TRUE")
    assert flags.cell("true").finding is None


def test_na_is_missing_among_numbers_and_a_name_among_words() -> None:
    for values, code in ((["1", "2", "NA"] * 3, MISSING), (["DE", "FR", "NA"] * 3, RARE + 3)):
        column, _ = learn(CategoryColumn, values)
        again = columns_from_state([json.loads(json.dumps(column_state(column)))])[0]
        assert column.cell("NA").code == again.cell("NA").code == code


def test_older_columns_that_tell_spellings_apart_recognize_both() -> None:
    state = {"kind": "category", "name": "x", "names": ["TRUE", "true", "3.0"], "rare": ["True"], "open": False}
    column = columns_from_state([state])[0]
    assert [column.cell(value).code for value in (True, "true", 3)] == [RARE + 1, RARE + 1, RARE + 3]
