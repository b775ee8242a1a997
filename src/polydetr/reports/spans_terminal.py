"""A tagged sentence in color, in the terminal, with Rich. Nested and overlapping spans are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from polydetr.errors import InputError, escaped, shown
from polydetr.reports.style import ink_on, label_colors
from polydetr.values.spans import Span

if TYPE_CHECKING:
    from rich.text import Text


def colored_entities(text: str, spans: Sequence[Span]) -> Text:
    """``text`` with every span colored and followed by its label, and a line that counts the labels.

    The labels stand in the text, so nothing is lost where there is no color. The innermost of nested spans gives the
    color.

    Raises:
        InputError: a span lies outside of the text.
    """
    from rich.style import Style
    from rich.text import Text

    colors = label_colors(span.label for span in spans)
    out = Text()
    for part, cover, ended in segments(text, spans):
        if cover:
            color = colors[cover[-1].label]
            out.append(escaped(part), Style(color=ink_on(color), bgcolor=color, bold=True, underline=len(cover) > 1))
        else:
            out.append(escaped(part))
        for span in ended:
            score = "" if span.score is None else f"\u00a0{span.score:.2f}"
            out.append(f"[{shown(span.label)}{score}]", Style(color=colors[span.label], bold=True))
    if spans:
        out.append("\n")
        for i, (label, number) in enumerate(sorted(Counter(span.label for span in spans).items())):
            out.append("   " if i else "")
            out.append("■ ", Style(color=colors[label]))
            out.append(f"{shown(label)} × {number}")
    return out


def segments(text: str, spans: Sequence[Span]) -> Iterator[tuple[str, list[Span], list[Span]]]:
    """Cuts ``text`` where a span begins or ends: (part, spans that cover it, longest first, spans that end with it,
    shortest first).
    """
    for span in spans:
        if not 0 <= span.start < span.end <= len(text):
            raise InputError(
                f"Span {span.start}-{span.end} ({span.label!r}) does not lie in a text of {len(text)} characters; "
                "spans count characters of the original string, the end exclusive."
            )
    cuts = sorted({0, len(text), *(span.start for span in spans), *(span.end for span in spans)})
    for start, end in pairwise(cuts):
        cover = [span for span in spans if span.start <= start and end <= span.end]
        cover.sort(key=lambda span: (span.start - span.end, span.label))
        yield text[start:end], cover, [span for span in reversed(cover) if span.end == end]
