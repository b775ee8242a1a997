"""Holding rows out: the same seed gives the same rows, classes keep their shares, rows that belong together stay
together.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Hashable, Sequence

from polydetr.core.records import Record
from polydetr.data.text_keys import fingerprint, normalize, row_text
from polydetr.errors import SchemaError
from polydetr.values.cells import is_empty


def split_records(
    records: Sequence[Record],
    fraction: float,
    *,
    seed: int = 0,
    stratify_by: str | None = None,
    texts: Sequence[str] | None = None,
) -> tuple[list[Record], list[Record]]:
    """(kept, held out), each in the original order; about ``fraction`` of the rows are held out.

    Rows of one document stay on one side where every record has a document (and there are two or more); otherwise rows
    of the same normalized text do. (Across documents the same short sentences recur in most of them.)

    Args:
        stratify_by: a column whose values keep their shares on both sides (as far as groups allow).
        texts: the columns compared for duplicates; None: all but ``stratify_by``.

    Raises:
        SchemaError: ``fraction`` not between 0 and 1, an unknown column, or fewer than two groups.
    """
    if not 0 < fraction < 1:
        raise SchemaError(f"the fraction to hold out is {fraction}, expected a number between 0 and 1.")
    if stratify_by is not None and not any(stratify_by in r.row for r in records):
        raise SchemaError(f"there is no column {stratify_by!r} to split by.")
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for i, key in enumerate(_group_keys(records, stratify_by, texts)):
        groups[key].append(i)
    if len(groups) < 2:
        raise SchemaError(
            f"{len(records)} rows form {len(groups)} group(s) of the same text or document; to hold some out takes two."
        )
    strata: dict[str, list[list[int]]] = defaultdict(list)
    for members in groups.values():
        label = records[members[0]].row.get(stratify_by) if stratify_by else None
        strata["" if is_empty(label) else str(label)].append(members)
    held = _hold_out(strata, fraction, random.Random(seed))
    if not held:  # every stratum was too small: one group is better than none
        held = set(random.Random(seed).choice(list(groups.values())))
    kept = [r for i, r in enumerate(records) if i not in held]
    return kept, [records[i] for i in sorted(held)]


def _group_keys(records: Sequence[Record], stratify_by: str | None, texts: Sequence[str] | None) -> list[Hashable]:
    """What rows that must stay together share; a row without text stands alone."""
    documents = {r.document for r in records}
    if None not in documents and len(documents) > 1:
        return [r.document for r in records]
    keys: list[Hashable] = []
    for i, record in enumerate(records):
        columns = texts if texts is not None else [c for c in record.row if c != stratify_by]
        text = normalize(row_text(record.row, columns))
        keys.append(fingerprint(text) if text.strip("\x1f ") else ("row", i))
    return keys


def _hold_out(strata: dict[str, list[list[int]]], fraction: float, rng: random.Random) -> set[int]:
    """Takes groups of each stratum until its share is reached; what rounding leaves is owed to the next stratum. One
    group of each stratum stays for training.
    """
    held: set[int] = set()
    owed = 0.0
    for label in sorted(strata):
        groups = strata[label]
        rng.shuffle(groups)
        owed += fraction * sum(map(len, groups))
        for members in groups[:-1]:
            if owed < len(members) / 2:
                break
            held.update(members)
            owed -= len(members)
    return held
