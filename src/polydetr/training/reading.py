"""Reading under a time limit: all rows, or, where there is no time for all, some of them from every part of the file.

A third of the seconds is spent on reading from the start. What is left of the file is then read in blocks, between
which the reader leaps (``core.reading.Leaps``) as far as the pace so far asks for in order to reach the end in time; of
the rows read first as many are kept as blocks would have left there. So a sorted file gives rows of every kind.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from polydetr.core.reading import Leaps
from polydetr.core.records import Record
from polydetr.training.budget import Budget

BLOCKS = 200
"""Leaps, about, from one end of a file to the other."""
LEAST_BLOCK = 1024
"""Bytes read between two leaps."""
_MARGIN = 0.9
"""Of the seconds left, what reading may take beside the leaps themselves."""
_MOST_LONG = 0.01
"""Rows of several lines, at most, in a file that is leaped over: a leap may end inside of one."""


def read_in_time(
    records: Iterable[Record], leaps: Leaps, budget: Budget, name: str, *, seconds: float, least: int, seed: int
) -> tuple[list[Record], str | None]:
    """The rows, or those of them that can be read in ``seconds``, and in words which these are; None for all of them.
    A resumed run reads what it had read: how that was done is decided under ``name``.
    """
    began = time.monotonic()
    if name in budget.kept:
        return _read_again(records, leaps, budget, name, budget.kept[name], seed=seed)
    rows = iter(records)
    found = list(islice(rows, 1))  # with which the reader knows whether it can leap
    all_of_them = _add_until(began + (seconds / 3 if leaps.size else seconds), rows, found, least=least)
    if not all_of_them and leaps.size and not _lines_are_rows(found):
        all_of_them = _add_until(began + seconds, rows, found, least=0)
    elif not all_of_them and leaps.size:
        start, first = leaps.offset, len(found)
        made = _leaped(rows, found, leaps, began=began, ends=began + seconds, seed=seed)
        if made:
            budget.decided[name] = {"first": first, "from": start, "leaps": made, "rows": len(found)}
            return _thinned(found, budget.decided[name], leaps.size, seed=seed)
        all_of_them = True
    budget.decided[name] = None if all_of_them else {"rows": len(found)}
    return found, None if all_of_them else _first(len(found))


def _add_until(ends: float, rows: Iterator[Record], found: list[Record], *, least: int) -> bool:
    """Adds rows to ``found``, so many at least, until the time has come; whether these are all."""
    for record in rows:
        found.append(record)
        if len(found) >= least and time.monotonic() > ends:
            return False
    return True


def _first(count: int) -> str:
    return f"the first {count:,}"


def _lines_are_rows(found: list[Record]) -> bool:
    """Whether (almost) every row is one line."""
    ends = [record.location for record in (found[0], found[-1])]
    places = [(place.line or 0) - (place.row or 0) for place in ends]
    return places[1] - places[0] <= _MOST_LONG * len(found)


def _leaped(
    rows: Iterator[Record], found: list[Record], leaps: Leaps, *, began: float, ends: float, seed: int
) -> list[tuple[int, int]]:
    """Adds rows of the rest of the file to ``found``; where leaps began, and how long they were."""
    rng, made = random.Random(seed), list[tuple[int, int]]()
    pace = (time.monotonic() - began) / max(1, leaps.offset)  # seconds for a byte
    block = max(LEAST_BLOCK, (leaps.size - leaps.offset) // (4 * BLOCKS))
    entered = leaps.offset
    for record in rows:
        found.append(record)
        if leaps.offset - entered < block:
            continue
        left, rest = _MARGIN * (ends - time.monotonic()), leaps.size - leaps.offset
        share = left / max(1e-9, rest * pace)  # of the rest that there is time for
        entered = leaps.offset
        if share < 1 and rest:
            block = max(LEAST_BLOCK, min(block, int(share * rest / BLOCKS) + 1))
            far = block * (1 / max(share, 1e-9) - 1) * rng.uniform(0.5, 1.5)
            leaps.skip = max(1, int(min(far, rest / 2)))
            made.append((leaps.offset, leaps.skip))
            entered += leaps.skip
    return made


def _thinned(found: list[Record], decided: dict[str, Any], size: int, *, seed: int) -> tuple[list[Record], str]:
    """Of the rows read first as many as the rest of the file has, by its length."""
    first, start = int(decided["first"]), int(decided["from"])
    rest = found[first:]
    count = min(first, max(1, round(len(rest) * start / max(1, size - start))))
    kept = sorted(random.Random(seed).sample(range(first), count))
    rows = [*(found[i] for i in kept), *rest]
    return rows, f"{len(rows):,}, from all parts of the file,"


def _read_again(
    records: Iterable[Record], leaps: Leaps, budget: Budget, name: str, kept: dict[str, Any] | None, *, seed: int
) -> tuple[list[Record], str | None]:
    budget.decided[name] = kept
    if kept is None:
        return list(records), None
    wanted = iter([(int(offset), int(skip)) for offset, skip in kept.get("leaps", ())])
    following = next(wanted, None)
    found: list[Record] = []
    for record in records:
        found.append(record)
        if len(found) >= kept["rows"]:
            break
        if following is not None and leaps.offset == following[0]:
            leaps.skip = following[1]
            following = next(wanted, None)
    if "leaps" in kept:
        return _thinned(found, kept, leaps.size, seed=seed)
    return found, _first(len(found))
