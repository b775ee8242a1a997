"""Which column holds the words that a target has a label for, one each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from polydetr.core.records import Row
from polydetr.errors import SchemaError
from polydetr.values.cells import is_missing
from polydetr.values.spans import join_tokens, read_offset

_MOST = 0.9
_USUAL = ("tokens", "words", "token", "word", "text", "sentence")


def beside(name: str, lists: Sequence[Sequence[Any]], rows: Sequence[Row]) -> str | None:
    """The column with as many words as the lists of column ``name`` have items, in (nearly) every row that has both:
    lists of texts, or else texts with blanks between their words. lists: those of the rows where it is not missing.
    """
    with_label = [row for row in rows if not is_missing(row.get(name))]
    sizes = [len(items) for items in lists]
    if len(with_label) != len(sizes) or max(sizes, default=0) < 2:
        return None
    columns = sorted(dict.fromkeys(key for row in rows for key in row if key != name), key=_rank)
    for words_of in (_tokens, _words_between_blanks):
        for column in columns:
            words = [words_of(row.get(column)) for row in with_label]
            agreeing = sum(known is not None and known == size for known, size in zip(words, sizes, strict=True))
            varied = words_of is _tokens or len({size for size in sizes if size}) > 1
            if varied and agreeing >= _MOST * len(sizes):
                return column
    return None


def words_column(name: str, rows: Sequence[Row]) -> str | None:
    """The column of ready-made words beside the labels in column ``name``, one label each: names or numbers."""
    lists = [list(row[name]) for row in rows if isinstance(row.get(name), (list, tuple, np.ndarray))]
    if not all(isinstance(item, (str, int, np.integer)) for items in lists for item in items):
        return None
    labeled = [row for row in rows if isinstance(row.get(name), (list, tuple, np.ndarray))]
    column = beside(name, lists, labeled)
    return column if column and any(_tokens(row.get(column)) is not None for row in labeled) else None


def _rank(column: str) -> int:
    return _USUAL.index(column.lower()) if column.lower() in _USUAL else len(_USUAL)


def _tokens(value: Any) -> int | None:
    """How many words a list of words has; None for anything else."""
    items = value if isinstance(value, (list, tuple, np.ndarray)) else None
    return len(items) if items is not None and all(isinstance(item, str) for item in items) else None


def _words_between_blanks(value: Any) -> int | None:
    return len(value.split()) if isinstance(value, str) else None


def check_spans(name: str, rows: Sequence[Row]) -> None:
    """Spans count characters. Raises SchemaError where those beside lists of words count the words."""
    column = next((c for row in rows for c in sorted(row, key=_rank) if c != name and _tokens(row[c])), None)
    if column is None:
        return
    spans = as_words = as_characters = 0
    for row in rows:
        tokens: Any = row.get(column)
        if not _tokens(tokens) or not isinstance(row.get(name), (list, tuple)):
            continue
        offsets = join_tokens(list(tokens))[1]
        starts, ends = {start for start, _ in offsets}, {end for _, end in offsets}
        for start, end in span_ends(row[name]):
            spans += 1
            as_words += 0 <= start <= end <= len(tokens)
            as_characters += start in starts and end in ends
    if spans and as_words == spans and as_characters < 0.5 * spans:
        raise SchemaError(
            f"the spans of {name!r} look like numbers of words: every end is at most the number of {column!r}, and "
            f"{spans - as_characters} of {spans} are no words if they count characters.",
            hint=f"Spans count the characters of the words of {column!r} joined by blanks. Or write a list of tags in "
            "their place, one per word: B-PER, I-PER, O.",
        )


def span_ends(items: Sequence[Any]) -> list[tuple[int, int]]:
    """Start and end of the items that are spans; one with a slip is passed over, and refused with its row."""
    ends = []
    for item in items:
        try:
            start, end, *_ = (item["start"], item["end"]) if isinstance(item, Mapping) else item
            start, end = read_offset(start), read_offset(end)
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
        if start is not None and end is not None:
            ends.append((start, end))
    return ends
