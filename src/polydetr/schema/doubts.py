"""Sentences about labels that may be meant otherwise than they are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from polydetr.errors import quoted
from polydetr.schema.columns import numbers_of
from polydetr.values.cells import category_name
from polydetr.values.lists import MARKS, read_list, split_items


def labels_alike(name: str, values: Iterable[Any]) -> list[str]:
    """A sentence where labels of a target differ in case or blanks alone. values: of its rows, lists of labels too."""
    labels = chain.from_iterable(value if isinstance(value, (list, tuple)) else [value] for value in values)
    spellings: dict[str, set[str]] = {}
    for label in {category_name(label) for label in labels}:
        spellings.setdefault("".join(label.split()).casefold(), set()).add(label)
    several = sorted(map(sorted, (same for same in spellings.values() if len(same) > 1)))
    if not several:
        return []
    shown = ", ".join(map(quoted, several[0][:4]))
    more = f", and so do {len(several) - 1} more" if len(several) > 1 else ""
    return [f"Target {name!r}: {shown} are classes of their own, which differ in case or blanks alone{more}."]


def joined_labels(name: str, values: Sequence[Any]) -> list[str]:
    """A sentence where single labels look like several: some are written between brackets, or joined of others."""
    texts = sorted({value.strip() for value in values if isinstance(value, str)})
    if numbers_of(name, values) is not None:
        return []
    how = f"if a row has several labels, say so: train --set tasks.{name}.multi_label=true"
    for text in texts:
        if isinstance(read_list(text), list):
            return [f"Target {name!r}: {text!r:.60} is read as one label, as most values are no lists; {how}."]
    for mark in MARKS:
        parts = {text: split_items(text, mark) for text in texts}
        counts = Counter(chain.from_iterable(map(set, parts.values())))
        for text, items in parts.items():
            if len(items) > 1 and all(counts[item] > 1 for item in items):
                return [f"Target {name!r}: {text!r:.60} is read as one label, though its parts are others; {how}."]
    return []
