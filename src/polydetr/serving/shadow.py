"""In a model process: a version that is asked beside the one that answers, and where the two differ.

It is asked in idle times alone; what there is no time for is skipped, and counted. No row and no answer is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polydetr.serving.contract import Reply

MOST_WAITING = 256
"""Rows that wait for idle times."""
_DIGITS = 3
_SURENESS = frozenset({"score", "probability", "abstained"})
_ERROR = "error"
"""Under which rows are counted that one of the two rejects."""


def compare(first: Sequence[Reply | None], second: Sequence[Reply | None]) -> dict[str, dict[str, int]]:
    """Target → how many answers are the "same" and how many "different". Labels, places and texts must be equal,
    numbers to three digits; how sure the two are does not matter.
    """
    counts: dict[str, dict[str, int]] = {}
    for one, other in zip(first, second, strict=True):
        if one is None or other is None:
            continue
        if "error" in one or "error" in other:
            results = {_ERROR: ("error" in one) == ("error" in other)}
        else:
            known = other["prediction"]
            results = {t: plain(value) == plain(known.get(t)) for t, value in one["prediction"].items()}
        for target, same in results.items():
            count = counts.setdefault(target, {"same": 0, "different": 0})
            count["same" if same else "different"] += 1
    return counts


def plain(value: Any) -> Any:
    """A prediction without how sure it is."""
    if isinstance(value, Mapping):
        return {name: plain(part) for name, part in value.items() if name not in _SURENESS}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return f"{value:.{_DIGITS}g}" if isinstance(value, float) else value
