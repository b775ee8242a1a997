"""What training rows looked like, and how far others are from that."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from polydetr.engine.profile import ColumnProfile, Counted, profile_of, profiles_in
from tiny_models import as_records, make_engine

ROWS = [
    {
        "note": "word " * (1 + i % 7),
        "price": i % 50,
        "tint": ["red", "green", "blue"][i % 3],
        "day": f"2024-01-{1 + i % 28:02}",
        "bought": ["tea"] * (i % 4),
        "label": "ab"[i % 2],
    }
    for i in range(200)
]
INPUTS = {"note": "text", "price": "number", "tint": "category", "day": "date", "bought": "history"}


def test_every_column_has_a_profile_that_its_own_rows_agree_with() -> None:
    engine = make_engine(ROWS, {"label": "classification"}, inputs=INPUTS)
    saved = json.loads(json.dumps(profile_of(engine.encoder, as_records(ROWS))))
    assert set(saved) == set(INPUTS)
    profiles = profiles_in({"profile": saved})
    counted = Counted(engine.encoder, profiles)
    counted.add(ROWS)
    taken = counted.take()
    assert counted.rows == 0
    for column, profile in profiles.items():
        assert sum(profile.shares.values()) == pytest.approx(1)
        assert sum(taken[column].values()) == len(ROWS)
        assert profile.psi(taken[column]) == pytest.approx(0, abs=1e-9)
    assert profiles["tint"].names == ("red", "green", "blue")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("note", "word " * 50), ("note", None), ("note", 5), ("price", 99), ("price", "much"), ("price", "n/a"),
        ("tint", "violet"), ("tint", None), ("tint", []), ("day", "1999-01-01"), ("bought", ["tea"] * 40),
        ("bought", []),
    ],
)  # fmt: skip
def test_a_column_that_changes_is_noticed_and_no_other(column: str, value: object) -> None:
    engine = make_engine(ROWS, {"label": "classification"}, inputs=INPUTS)
    profiles = profiles_in({"profile": profile_of(engine.encoder, as_records(ROWS))})
    counted = Counted(engine.encoder, profiles)
    counted.add([{**row, column: value} for row in ROWS])
    for name, counts in counted.take().items():
        assert (profiles[name].psi(counts) > 0.25) == (name == column)


def test_the_index_is_that_of_the_formula() -> None:
    profile = ColumnProfile((), ("a", "b"), {"=a": 0.5, "=b": 0.5}, 100)
    expected = (0.5 - 0.25) * math.log(0.5 / 0.25) + (0.5 - 0.75) * math.log(0.5 / 0.75)
    assert profile.psi({"=a": 25, "=b": 75}) == pytest.approx(expected)
    assert math.isfinite(profile.psi({"other": 10}))


def test_rows_like_the_training_rows_have_the_index_that_theory_says() -> None:
    """(B - 1)(1/n + 1/N) on average."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(200):
        profile = ColumnProfile.learn(random.normal(size=2000).tolist())
        others = [profile.bin_of(float(value)) for value in random.normal(size=500)]
        found.append(profile.psi({one: others.count(one) for one in set(others)}))
    assert np.mean(found) == pytest.approx(9 * (1 / 500 + 1 / 2000), rel=0.15)


def test_folders_without_a_profile_or_with_another_have_none() -> None:
    for saved in ({}, {"profile": []}, {"profile": {"x": 3}}, {"profile": {"x": {"edges": ["a"]}}}):
        assert profiles_in(saved) == {}
    assert ColumnProfile.learn([None, None]).shares == {"missing": 1.0}
