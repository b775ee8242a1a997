"""Reads a row's labels, tags or spans, for every task that answers with spans of a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from polydetr.core.layout import FieldText, Layout
from polydetr.core.records import Row
from polydetr.errors import Location, RowError, SchemaError
from polydetr.values.cells import is_missing
from polydetr.values.spans import Span
from polydetr.values.tags import iob2_to_word_spans, to_iob2


def items_of(row: Row, target: str) -> list[Any] | None:
    """The row's tags or spans, as they stand there; None where the value is missing.

    Raises:
        RowError: the value is no list, or mixes tags and spans.
    """
    value = row.get(target)
    if is_missing(value):
        return None
    items = list(value) if isinstance(value, (list, tuple, np.ndarray)) else None
    if items is None or len({isinstance(item, str) for item in items}) > 1:
        raise RowError(
            f"{value!r:.80} is neither a list of tags nor a list of spans",
            location=Location(column=target),
            hint='Expected ["O", "B-PER", ...], one per word, or [{"start": 0, "end": 4, "label": "PER"}, ...].',
        )
    return items


def span_of(item: Any, target: str) -> Span:
    """One span, from a mapping or from a sequence of start, end and label.

    Raises:
        RowError: it is neither.
    """
    try:
        start, end, label = (item["start"], item["end"], item["label"]) if isinstance(item, Mapping) else item
        if int(start) == start and int(end) == end:
            return Span(int(start), int(end), str(label))
    except (KeyError, TypeError, ValueError):
        pass
    message = f'{item!r:.80} is not a span, expected {{"start": 0, "end": 4, "label": "PER"}}'
    raise RowError(message, location=Location(column=target)) from None


def spans_in(items: Sequence[Any], text: FieldText, target: str) -> list[Span]:
    """The items as spans of the text.

    Raises:
        RowError: an item is no span, or lies outside.
    """
    spans = [span_of(item, target) for item in items]
    for span in spans:
        if not 0 <= span.start < span.end <= len(text.text):
            raise RowError(
                f"span {span.start}-{span.end} ({span.label}) lies outside the text of {len(text.text)} characters, "
                "or is empty",
                location=Location(column=target),
                hint="Spans count characters from 0; the end is exclusive.",
            )
    return spans


def tags_in(items: Sequence[str], text: FieldText, target: str, *, scheme: str) -> list[str]:
    """The items as IOB2 tags, one per word, or unchanged where ``scheme`` is "plain". Without any items each word is
    "O".

    Raises:
        RowError: not one tag per word, or one that the scheme does not have.
    """
    plain = scheme == "plain"
    if len(items) != len(text.words) and (items or plain):
        raise RowError(
            f"{len(items)} tags for {len(text.words)} words",
            location=Location(column=target),
            hint="Give one tag per word; the safest way is a list of words beside the list of tags.",
        )
    if plain:
        return list(items)
    try:
        return to_iob2(items, scheme=scheme) if items else ["O"] * len(text.words)
    except SchemaError as error:
        raise RowError(error.message, location=Location(column=target), hint=error.hint) from None


def spans_of_tags(tags: Sequence[str], text: FieldText) -> list[Span]:
    """The spans that IOB2 tags mark, in characters."""
    return [Span(text.words[a][0], text.words[b - 1][1], label) for a, b, label in iob2_to_word_spans(tags)]


def rows_in(layout: Layout, num_rows: int) -> Sequence[int]:
    """The rows of the document, of ``num_rows`` rows, that have words in this window."""
    return (0,) if num_rows == 1 else np.unique(layout.row[layout.first]).tolist()
