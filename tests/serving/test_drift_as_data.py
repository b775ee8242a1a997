"""Drift as numbers, for whoever draws it."""

from __future__ import annotations

import pytest

from polydetr.engine.profile import MISSING, ColumnProfile
from polydetr.serving.drift import LEAST_ROWS, Windows


def test_every_column_tells_its_bins_in_order_and_few_rows_tell_no_index() -> None:
    numbers = ColumnProfile.learn([float(i) for i in range(100)] + [None] * 10)
    names = ColumnProfile.learn(["a"] * 60 + ["b"] * 40)
    windows = Windows({"n": numbers, "c": names})
    windows.add({"n": {"0": 5, MISSING: 5}, "c": {"=a": 10}})
    found = {one.column: one for one in windows.drifts()}
    assert (found["n"].rows, found["n"].psi, found["n"].missing) == (10, None, None)
    assert found["n"].bins[0][0].startswith("< ")
    assert found["n"].bins[0][2] == 0.5
    assert found["n"].bins[-1][0] == MISSING
    assert found["c"].bins[0] == ("a", 0.6, 1.0)
    assert sum(share for _, share, _ in found["n"].bins) == pytest.approx(1.0)


def test_with_rows_enough_it_is_what_prometheus_is_told() -> None:
    windows = Windows({"c": ColumnProfile.learn(["a"] * 60 + ["b"] * 40)})
    windows.add({"c": {"=b": LEAST_ROWS}})
    (one,) = windows.drifts()
    assert (one.psi, one.missing, one.rows) == windows.told()["c"]
    assert one.psi is not None
    assert one.psi > 1
    assert [(name, asked) for name, _, asked in one.bins] == [("a", 0.0), ("b", 1.0)]
