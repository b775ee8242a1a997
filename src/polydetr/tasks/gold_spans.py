"""Reads a row's labels, tags or spans, for every task that answers with spans of a text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from polydetr.core.layout import FieldText, Layout
from polydetr.core.records import Row
from polydetr.errors import Location, RowError, SchemaError
from polydetr.values.cells import is_missing, read_category
from polydetr.values.spans import NOT_FOUND, Span, place_of, read_offset, trim
from polydetr.values.tags import iob2_to_word_spans, spans_to_iob2, to_iob2


def items_of(row: Row, target: str, names: Sequence[str] | None = None) -> list[Any] | None:
    """The row's tags or spans, as they stand there; None where the value is missing. Tags that are numbers become their
    ``names``, or are written out where there are none.

    Raises:
        RowError: the value is no list, mixes tags and spans, or has a number without a name.
    """
    value = row.get(target)
    if is_missing(value):
        return None
    items = list(value) if isinstance(value, (list, tuple, np.ndarray)) else None
    if items is not None:
        items = [_name(item, names, target) if isinstance(item, (str, int, np.integer)) else item for item in items]
    if items is None or len({isinstance(item, str) for item in items}) > 1:
        raise RowError(
            f"{value!r:.80} is neither a list of tags nor a list of spans",
            location=Location(column=target),
            hint='Expected ["O", "B-PER", ...], one per word, or [{"start": 0, "end": 4, "label": "PER"}, ...].',
        )
    return items


def _name(tag: str | int | np.integer, names: Sequence[str] | None, target: str) -> str:
    """The tag as text; of a number, also one that a text writes, its name."""
    if not names or not str(tag).isdigit():
        return str(tag).strip()
    if int(tag) < len(names):
        return names[int(tag)]
    raise RowError(
        f"tag number {tag} has no name: there are {len(names)}, numbered from 0",
        location=Location(column=target),
        hint=f"Name all of them, in order: tasks.{target}.labels.",
    )


def span_of(item: Any, target: str) -> Span:
    """One span, from a mapping or from a sequence of start, end and label.

    Raises:
        RowError: it is neither.
    """
    try:
        start, end, label = (item["start"], item["end"], item["label"]) if isinstance(item, Mapping) else item
        start, end = read_offset(start), read_offset(end)
        if start is not None and end is not None and read_category(label, column=target) is not None:
            return Span(start, end, str(label).strip())
    except (KeyError, TypeError, ValueError, OverflowError):
        pass
    message = f'{item!r:.80} is not a span, expected {{"start": 0, "end": 4, "label": "PER"}}'
    raise RowError(message, location=Location(column=target)) from None


def spans_in(items: Sequence[Any], text: FieldText, target: str) -> tuple[list[Span], list[str]]:
    """The items as spans of the text, without white space at their ends, and a message per span that says another text
    than it marks: it is put where its text stands.

    Raises:
        RowError: an item is no span, or lies outside.
    """
    spans: list[Span] = []
    problems: list[str] = []
    for item in items:
        span = span_of(item, target)
        said = item.get("text") if isinstance(item, Mapping) else None
        if isinstance(said, str):
            span = _where_it_says(span, said.strip(), text.text, problems)
        if not 0 <= span.start < span.end <= len(text.text):
            raise RowError(
                f"span {span.start}-{span.end} ({span.label}) lies outside the text of {len(text.text)} characters, "
                "or is empty",
                location=Location(column=target),
                hint="Spans count characters from 0; the end is exclusive.",
            )
        start, end = trim(text.text, span.start, span.end)
        spans.append(span._replace(start=start, end=end))
    return spans, problems


def _where_it_says(span: Span, said: str, text: str, problems: list[str]) -> Span:
    """The span at the place of its text nearest to its offsets, which are kept where the text does not occur."""
    marked = text[max(0, span.start) : max(0, span.end)]
    if not said or marked.strip().casefold() == said.casefold():
        return span
    place = place_of(text, said, span.start)
    message = f"span {span.start}-{span.end} ({span.label}) says {said!r:.40} and marks {marked!r:.40}"
    if place == NOT_FOUND:
        problems.append(f"{message}: the former does not occur, so the latter is taken")
        return span
    problems.append(f"{message}: it is put at {place}-{place + len(said)}")
    return span._replace(start=place, end=place + len(said))


def tags_in(items: Sequence[str], text: FieldText, target: str, *, scheme: str) -> list[str]:
    """The items as IOB2 tags, one per word, or unchanged where ``scheme`` is "plain". Without any items each word is
    "O". Tags that mark spans may also stand for the words between blanks, of which several may be one ("don't").

    Raises:
        RowError: not one tag per word, or one that the scheme does not have.
    """
    plain = scheme == "plain"
    between_blanks = [match.span() for match in re.finditer(r"\S+", text.text)]
    by_blanks = not plain and len(items) != len(text.words) and len(items) == len(between_blanks)
    if len(items) != len(text.words) and not by_blanks and (items or plain):
        raise RowError(
            f"{len(items)} tags for {len(text.words)} words",
            location=Location(column=target),
            hint="Give one tag per word; the safest way is a list of words beside the list of tags.",
        )
    if plain:
        return list(items)
    try:
        tags = to_iob2(items, scheme=scheme) if items else ["O"] * len(text.words)
    except SchemaError as error:
        raise RowError(error.message, location=Location(column=target), hint=error.hint) from None
    if not by_blanks:
        return tags
    return spans_to_iob2(text.words, spans_of_tags(tags, FieldText(text.text, between_blanks)))[0]


def spans_of_tags(tags: Sequence[str], text: FieldText) -> list[Span]:
    """The spans that IOB2 tags mark, in characters."""
    return [Span(text.words[a][0], text.words[b - 1][1], label) for a, b, label in iob2_to_word_spans(tags)]


def rows_in(layout: Layout, num_rows: int) -> Sequence[int]:
    """The rows of the document, of ``num_rows`` rows, that have words in this window."""
    return (0,) if num_rows == 1 else np.unique(layout.row[layout.first]).tolist()
