"""Answers as they can be compared between processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from polydetr.core.predictions import RowResult


def answers_of(results: Sequence[RowResult]) -> list[dict[str, Any]]:
    return [{t: [_plain(p.value), p.probability] for t, p in result.predictions.items()} for result in results]


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value
