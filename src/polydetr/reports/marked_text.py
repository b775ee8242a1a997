"""A text with its spans marked, as HTML: each in the color of its label, which stands beside it as a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from polydetr.errors import escaped
from polydetr.reports.spans_terminal import segments
from polydetr.reports.style import ink_on
from polydetr.values.spans import Span


def marked_text(text: str, spans: Sequence[Span], colors: Mapping[str, str]) -> str:
    """A paragraph with every span of ``text`` marked and followed by its label and score; of nested spans the innermost
    gives the background. colors: by label, as ``reports.style.label_colors`` gives them.

    Raises:
        InputError: a span lies outside of the text.
    """
    parts = []
    for part, cover, ended in segments(text, spans):
        html = plain_html(part)
        for span in reversed(cover):
            html = f'<mark style="--c:{colors[span.label]}">{html}</mark>'
        parts.append(html + "".join(chip(span.label, span.score, colors[span.label]) for span in ended))
    return f'<p class="words" dir="auto">{"".join(parts)}</p>'


def chip(label: str, score: float | None, color: str) -> str:
    """A label on its color."""
    number = "" if score is None else f" {score:.2f}"
    style = f"background:{color};color:{ink_on(color)}"
    return f'<span class="chip" style="{style}">{plain_html(label)}{number}</span>'


def plain_html(text: str) -> str:
    """Text of the data as HTML shows it: no tag, no entity, no control character of it is one."""
    return escape(escaped(text))
