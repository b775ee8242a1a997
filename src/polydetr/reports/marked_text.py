"""A text with its spans marked, as HTML: spans may lie inside one another, or across."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Protocol, TypeVar

from polydetr.errors import InputError, escaped
from polydetr.reports.style import ink_on
from polydetr.values.spans import Span


class Placed(Protocol):
    """Characters ``start`` … ``end`` of a text, which bear a label."""

    @property
    def start(self) -> int: ...

    @property
    def end(self) -> int: ...

    @property
    def label(self) -> str: ...


_Placed = TypeVar("_Placed", bound=Placed)


def segments(
    text: str, spans: Sequence[_Placed], *, start: int = 0, end: int | None = None
) -> Iterator[tuple[str, list[_Placed], list[_Placed]]]:
    """Cuts ``text[start:end]`` where a span begins or ends: (part, spans that cover it, longest first, spans that end
    with it, shortest first).
    """
    end = len(text) if end is None else end
    inside = [span for span in spans if span.start < end and span.end > start]
    cuts = sorted({start, end, *(min(max(c, start), end) for span in inside for c in (span.start, span.end))})
    for first, last in pairwise(cuts):
        cover = [span for span in inside if span.start <= first and last <= span.end]
        cover.sort(key=lambda span: (span.start - span.end, span.label))
        yield text[first:last], cover, [span for span in reversed(cover) if span.end == last]


def check_spans(text: str, spans: Sequence[Placed]) -> None:
    """Raises InputError where a span is empty or lies outside of the text."""
    for span in spans:
        if not 0 <= span.start < span.end <= len(text):
            raise InputError(
                f"Span {span.start}-{span.end} ({span.label!r}) does not lie in a text of {len(text)} characters; "
                "spans count characters of the original string, the end exclusive."
            )


def marked(
    text: str,
    spans: Sequence[_Placed],
    opened: Callable[[_Placed], str],
    behind: Callable[[_Placed], str],
    *,
    start: int = 0,
    end: int | None = None,
) -> str:
    """``text[start:end]`` as HTML, escaped, with its spans marked; of nested spans the innermost gives the background.

    opened: the tag that begins a span's <mark>. behind: what follows its end.
    """
    parts = []
    for part, cover, ended in segments(text, spans, start=start, end=end):
        parts.append(f"{''.join(map(opened, cover))}{plain_html(part)}{'</mark>' * len(cover)}")
        parts += map(behind, ended)
    return "".join(parts)


def marked_text(text: str, spans: Sequence[Span], colors: Mapping[str, str]) -> str:
    """A paragraph with every span of ``text`` marked and followed by its label and score. colors: by label, as
    ``reports.style.label_colors`` gives them.

    Raises:
        InputError: a span lies outside of the text.
    """
    check_spans(text, spans)
    html = marked(
        text, spans, lambda span: f'<mark style="--c:{colors[span.label]}">',
        lambda span: chip(span.label, span.score, colors[span.label]),
    )  # fmt: skip
    return f'<p class="words" dir="auto">{html}</p>'


def chip(label: str, score: float | None, color: str) -> str:
    """A label on its color."""
    number = "" if score is None else f" {score:.2f}"
    style = f"background:{color};color:{ink_on(color)}"
    return f'<span class="chip" style="{style}">{plain_html(label)}{number}</span>'


def plain_html(text: str) -> str:
    """Text of the data as HTML shows it: no tag, no entity, no control character of it is one."""
    return escape(escaped(text))
