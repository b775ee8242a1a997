"""A tagged sentence in color, in the terminal, with Rich. Nested and overlapping spans are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from polydetr.errors import escaped, shown
from polydetr.reports.marked_text import check_spans, segments
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

    check_spans(text, spans)
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
