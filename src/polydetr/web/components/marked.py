"""Text with spans marked in it, nested and crossing ones too; and text whose words are colored by a weight."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nicegui import ui

from polydetr.reports.marked_text import check_spans, marked, plain_html
from polydetr.reports.style import BLUE, ORANGE
from polydetr.web.markup import trusted

_UNSEEN = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\u00ad]+")
"""Characters that take no room: zero-width ones, and those that turn the direction of what follows."""

_LONG = 2_000
"""Characters."""


@dataclass(frozen=True)
class Mark:
    """Characters start … end of a text. weak: the answer is withheld. title: more about it, shown at rest."""

    start: int
    end: int
    label: str
    score: float | None = None
    weak: bool = False
    title: str = ""


def marked_html(text: str, marks: Sequence[Mark], colors: Mapping[str, str]) -> str:
    """The text as HTML, escaped, its marks followed by label and score. A mark on characters that are not seen shows
    which they are, and no mark turns the direction of the text around it.

    Raises:
        InputError: a mark lies outside of the text.
    """
    check_spans(text, marks)

    def opened(mark: Mark) -> str:
        style = f"--c:{plain_html(colors.get(mark.label, 'var(--accent)'))}"
        title = f' title="{plain_html(mark.title)}"' if mark.title else ""
        unseen = _named(text[mark.start : mark.end])
        return f'<mark class="pd-mark{" weak" if mark.weak else ""}" style="{style}"{title}>{unseen}'

    def behind(mark: Mark) -> str:
        number = "" if mark.score is None else f" {mark.score:.2f}"
        style = f"--c:{plain_html(colors.get(mark.label, 'var(--accent)'))}"
        return f'<span class="pd-tag" style="{style}">{plain_html(mark.label)}{number}</span>'

    return marked(text, marks, opened, behind)


def _named(part: str) -> str:
    """The names of a part's characters, where none of them can be seen."""
    if _UNSEEN.sub("", part).strip():
        return ""
    names = ", ".join(unicodedata.name(character, f"U+{ord(character):04X}") for character in part[:4])
    return f'<span class="pd-unseen">{plain_html(names.lower())}</span>'


def marked_text(text: str, marks: Sequence[Mark], colors: Mapping[str, str]) -> ui.html:
    """See ``marked_html``; colors: label → color, as ``reports.style.label_colors`` gives them."""
    return _paragraph(marked_html(text, marks, colors), len(text))


def _paragraph(html: str, length: int) -> ui.html:
    """A long one scrolls within itself, also by the keyboard."""
    more = {"tabindex": "0"} if length > _LONG else {}
    return trusted(html, "p", "pd-text" + (" long" if more else ""), dir="auto", **more)


@dataclass(frozen=True)
class Weighed:
    """A word with what stood before it; weight: from -1 (against) to 1 (for)."""

    text: str
    weight: float
    before: str = ""
    in_answer: bool = False


def weighed_text(found: Sequence[Weighed]) -> ui.html:
    """Words underlined and tinted by their weights: full below what speaks for, dashed below what speaks against."""
    return _paragraph("".join(map(_weighed, found)), sum(len(word.text) for word in found))


def _weighed(word: Weighed) -> str:
    shown, before = plain_html(word.text), plain_html(word.before)
    strong = abs(word.weight)
    kind = "answer " if word.in_answer else ""
    if strong < 0.1:  # hardly matters
        return f'{before}<span class="pd-answered">{shown}</span>' if kind else f"{before}{shown}"
    color = BLUE if word.weight > 0 else ORANGE
    kind += "for" if word.weight > 0 else "against"
    return (
        f'{before}<mark class="pd-weighed {kind}" style="--c:{color};--w:{round(100 * min(1.0, strong))}" '
        f'title="{word.weight:+.2f}">{shown}</mark>'
    )
