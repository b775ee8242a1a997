"""Losses by occlusion: against sums by hand, on a stand-in for a model that reads two columns and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from polydetr.explain.occlusion import occlusion


class Columns:
    """Units that are the keys of a row; the first two are also tried together."""

    probes = [{0}, {1}, {2}, {0, 1}]  # noqa: RUF012

    def __len__(self) -> int:
        return 3

    def without(self, row: dict[str, float], gone: set[int]) -> dict[str, float]:
        return {name: value for number, (name, value) in enumerate(row.items()) if number not in gone}


class Total:
    """An answer as probable as the readings, here the rows' sums, say."""

    words = ()

    def level(self, reading: float) -> float:
        return reading


def test_scores_are_mean_losses() -> None:
    def read(rows: Any) -> list[Any]:
        return [sum(row.values()) for row in rows]

    found = occlusion(read, {"a": 0.5, "b": 0.25, "c": 0.0}, Columns(), Total())  # type: ignore[arg-type]
    np.testing.assert_allclose(found.scores, [(0.5 + 0.75) / 2, (0.25 + 0.75) / 2, 0.0])
    assert (found.value, found.baseline) == (0.75, 0.0)
    assert found.error == pytest.approx(abs(0.625 + 0.5 - 0.75))
