"""Rows that stand in two splits: a model is measured there on what it was trained on."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from polydetr.core.records import Record
from polydetr.data.copies import Compared, copy_keys, shared_rows
from polydetr.values.cells import category_name, is_empty

_LISTS_PARTS = (".yaml", ".yml")


def overlap_lines(
    splits: Mapping[str, Sequence[Record]], compared: Compared, *, sources: Mapping[str, Any], group: str | None = None
) -> list[str]:
    """A sentence for every two splits of which rows are copies of one another, or belong to one group.

    splits: by name, the training rows first. sources: what each was read from. group: the column of the groups.
    """
    records = [record for rows in splits.values() for record in rows]
    by_row = iter(copy_keys(records, compared))
    keys = {name: [next(by_row) for _ in rows] for name, rows in splits.items()}
    lines = []
    for (a, ours), (b, theirs) in combinations(splits.items(), 2):
        shared = shared_rows(keys[a], keys[b])
        if shared:
            lines.append(_line((a, ours), (b, theirs), shared, same_file(sources.get(a), sources.get(b))))
        if group is not None:
            shared = shared_rows(*(_groups(rows, group) for rows in (ours, theirs)))
            if shared:
                lines.append(
                    f"{len(shared):,} of {len(theirs):,} {b} rows belong to a {group!r} of which {a} has rows too, for "
                    f"example {theirs[shared[0][1]].row[group]!r}: the scores on them will be too good"
                )
    return lines


def same_file(one: Any, other: Any) -> bool:
    """Whether two sources are one file. A file that names the parts of a data set is read as another part each time."""
    if not isinstance(one, str | Path) or not isinstance(other, str | Path) or Path(one).suffix in _LISTS_PARTS:
        return one is other and one is not None and not isinstance(one, str | Path)
    try:
        return Path(one).samefile(other)
    except OSError:
        return False


def _line(
    ours: tuple[str, Sequence[Record]],
    theirs: tuple[str, Sequence[Record]],
    shared: Sequence[tuple[int, int]],
    same: bool,
) -> str:
    (a, a_rows), (b, b_rows), (i, j) = ours, theirs, shared[0]
    if same and len(shared) == len(b_rows):
        return f"{a} and {b} are the same rows, given twice: the scores on {b} say nothing"
    places = f"{b} {_place(b_rows[j], j)} repeats {a} {_place(a_rows[i], i)}"
    return (
        f"{len(shared):,} of {len(b_rows):,} {b} rows have a copy in {a} (the same inputs, text or image; {places}): "
        "the scores on them will be too good"
    )


def _place(record: Record, index: int) -> str:
    return f"row {record.location.row or index + 1}"


def _groups(rows: Sequence[Record], column: str) -> list[list[Hashable]]:
    return [[] if is_empty(value := record.row.get(column)) else [category_name(value)] for record in rows]
