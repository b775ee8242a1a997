"""What charts are drawn from: the same numbers in the drawing, in the table, in words."""

from __future__ import annotations

from itertools import pairwise

import pytest

from polydetr.web.components.chart_data import bars, heat, lines, pairs, score_bounds


def test_a_chart_of_lines_draws_the_numbers_of_its_table() -> None:
    found = lines("Loss", {"a": [(1, 0.5), (2, 0.25)], "b": [(1, None), (2, 2.0)]}, x="step", y="loss")
    drawn = {one["name"]: one["data"] for one in found.options["series"]}
    assert drawn == {"a": [[1, 0.5], [2, 0.25]], "b": [[1, None], [2, 2.0]]}
    assert found.rows == [["a", 1, 0.5], ["a", 2, 0.25], ["b", 1, None], ["b", 2, 2.0]]
    assert found.head == ["", "step", "loss"]
    assert "a: 0.5 → 0.25" in found.summary
    assert found.zoom


def test_names_at_the_ends_of_lines_do_not_lie_upon_each_other() -> None:
    series = {f"run {i}": [(0, 0.0), (1, 0.9 + i / 1000)] for i in range(6)}
    found = lines("Score", series, x="step", y="score")
    places = []
    for one in found.options["series"]:
        at = (0.905 - one["data"][-1][1]) / 0.905 * 220
        places.append(at + one["endLabel"]["offset"][1])
    places.sort()
    assert min(b - a for a, b in pairwise(places)) >= 16


def test_bars_begin_at_zero_and_carry_their_values() -> None:
    large = bars("Rows", {"a": 45_213.0}, unit="rows")
    assert large.options["series"][0]["data"][0]["label"]["formatter"] == "45,213"
    assert large.summary == "a: 45,213"
    found = bars("Rows", {"<script>": 3.0, "{b}": 5.0}, unit="rows")
    assert found.options["xAxis"]["min"] == 0
    assert found.rows == [["<script>", 3.0], ["{b}", 5.0]]
    assert all("{" not in item["label"]["formatter"] for item in found.options["series"][0]["data"])


def test_intervals_are_drawn_and_told() -> None:
    found = bars("right", {"a": 0.5}, unit="right", intervals={"a": (0.4, 0.6)}, share=True, most=1.0)
    assert found.rows == [["a", 0.5, 0.4, 0.6]]
    assert [[0.4, 0], [0.6, 0]] in [one["data"] for one in found.options["series"]]


def test_the_color_of_a_cell_is_its_share_of_the_row() -> None:
    found = heat("Confusion", ["a", "b"], [(0, 0, 3), (0, 1, 1), (1, 1, 2)], of=("label", "answer"))
    assert [item["value"] for item in found.options["series"][0]["data"]] == [
        [0, 0, 3, 0.75],
        [1, 0, 1, 0.25],
        [1, 1, 2, 1.0],
    ]
    assert found.rows == [["a", "a", 3], ["a", "b", 1], ["b", "b", 2]]
    assert found.summary == "a → b: 1"


def test_two_bars_beside_each_name() -> None:
    found = pairs("drift", {"low": (0.25, 0.75)}, of=("before", "after"))
    assert [one["data"] for one in found.options["series"]] == [[0.25], [0.75]]
    assert found.rows == [["low", 0.25, 0.75]]


@pytest.mark.parametrize(
    ("values", "bounds"),
    [([1.0, 1.0], (0.9, 1.0)), ([0.02, 0.4], (0.0, 1.0)), ([30.0, 25.0], (None, None)), ([], (None, None))],
)
def test_the_axis_of_shares_ends_at_one(values: list[float], bounds: tuple[float | None, float | None]) -> None:
    assert score_bounds({"a": list(enumerate(values))}) == bounds
