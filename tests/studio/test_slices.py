"""Scores of parts of the rows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from polydetr.metrics.calibration import wilson_interval
from polydetr.studio.slices import MISSING, Outcome, outcomes_of, script_of, slices, ways, whole


def test_parts_by_length_hold_about_as_many_rows_and_their_own_share() -> None:
    outcomes = [Outcome({"text": "x" * n}, right=n > 50) for n in range(1, 101)]
    found = slices(outcomes, "length", "text")
    assert [part.rows for part in found] == [25, 25, 25, 25]
    assert [part.value for part in found] == [0.0, 0.0, 1.0, 1.0]
    assert [part.name for part in found] == ["1 – 25", "26 – 50", "51 – 75", "76 – 100"]
    assert (found[0].low, found[0].high) == wilson_interval(0.0, 25)
    assert whole(outcomes) is not None
    assert whole(outcomes).value == 0.5  # type: ignore[union-attr]


def test_a_part_with_few_rows_says_so() -> None:
    outcomes = [Outcome({"town": "Köln"}, right=True)] * 40 + [Outcome({"town": "北京"}, right=False)] * 3
    found = {part.name: part for part in slices(outcomes, "value", "town")}
    assert found["Köln"].enough
    assert not found["北京"].enough
    assert found["北京"].high > 0.5  # three wrong rows prove little


def test_missing_cells_and_rare_values_are_parts_of_their_own_and_come_last() -> None:
    cells = [None, "", *["a"] * 5, *["b"] * 4, *[f"v{i}" for i in range(20)]]
    found = slices([Outcome({"c": cell}, right=True) for cell in cells], "value", "c")
    assert [part.name for part in found][:2] == ["a", "b"]
    assert [part.name for part in found][-2:] == ["…", MISSING]
    assert sum(part.rows for part in found) == len(cells)


def test_numbers_are_parted_by_size_and_errors_are_means_with_an_interval() -> None:
    outcomes = [Outcome({"n": str(n)}, error=1.0 if n < 50 else 3.0) for n in range(100)]
    found = slices(outcomes, "value", "n")
    assert [part.value for part in found] == [1.0, 1.0, 3.0, 3.0]
    assert found[0].low == found[0].high == 1.0
    alone = slices([Outcome({"n": "1"}, error=2.0)], "value", "n")
    assert alone[0].high == float("inf")


@pytest.mark.parametrize(
    ("numbers", "names"),
    [
        (range(45_000, 45_100), ["45000 – 45024", "45025 – 45049", "45050 – 45074", "45075 – 45099"]),
        ([10_000 + i / 100 for i in range(100)],
         ["10000 – 10000.2", "10000.2 – 10000.5", "10000.5 – 10000.7", "10000.8 – 10001"]),
        ([*[0] * 60, *[10] * 60], ["0", "10"]),
    ],
)  # fmt: skip
def test_parts_of_large_or_close_numbers_have_names_of_their_own(numbers: Sequence[float], names: list[str]) -> None:
    outcomes = [Outcome({"n": n}, right=True, gold=n) for n in numbers]
    assert [part.name for part in slices(outcomes, "gold", "")] == names


@pytest.mark.parametrize(
    ("text", "script"),
    [("hello", "Latin"), ("银行卡丢了怎么办", "Han"), ("これはペンです", "Japanese"), ("привет", "Cyrillic"),
     ("مرحبا", "Arabic"), ("안녕하세요", "Korean"), ("12 % – !", "–"), ("", "–"), ("ok 银行卡丢了", "Han")],
)  # fmt: skip
def test_the_script_is_that_of_most_letters(text: str, script: str) -> None:
    assert script_of(text) == script


def test_only_what_parts_the_rows_is_offered() -> None:
    rows = [{"text": f"sentence {i} {'好' * (i % 2) * 30}", "same": 1, "town": "ab"[i % 2]} for i in range(60)]
    outcomes = [Outcome(row, right=True, gold=i % 2) for i, row in enumerate(rows)]
    assert ways(outcomes) == [("length", "text"), ("script", "text"), ("value", "town"), ("gold", "")]
    assert ways([]) == []


def test_words_that_stand_apart_are_one_text() -> None:
    outcomes = [Outcome({"tokens": ["word"] * (i + 1)}, right=True) for i in range(40)]
    assert ways(outcomes)[0] == ("length", "tokens")
    assert len(slices(outcomes, "length", "tokens")) == 4


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(ValueError, match="color"):
        slices([Outcome({}, right=True)], "color")


def test_kept_rows_are_judged_as_training_did_and_numbers_by_their_error() -> None:
    kept = [{"row": {"a": 1}, "gold": "x", "answer": "y", "right": False}, {"row": {"a": 2}, "gold": "x"}]
    assert [one.right for one in outcomes_of(kept, "classification")] == [False]
    numbers = [{"row": {}, "gold": "2.5", "answer": 3.0}, {"row": {}, "gold": None, "answer": 3.0}]
    assert [one.error for one in outcomes_of(numbers, "regression")] == [0.5]
