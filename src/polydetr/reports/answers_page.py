"""Answers as one HTML page: a card per row, the answer first, then its alternatives, then the row. No script, no
outside host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources

from polydetr.reports.confidence import in_words
from polydetr.reports.html import page
from polydetr.reports.marked_text import marked_text, plain_html
from polydetr.values.spans import Span

MOST_ROWS = 500
MOST_CHARACTERS = 24_000_000
"""Of a page, its images included: browsers open larger ones slowly or not at all."""
_ALTERNATIVES = 5
_LONGEST_CELL = 1000


@dataclass(frozen=True)
class ShownTarget:
    """The answer for one target. value: as text; alternatives: label → probability, where there are several; interval:
    of a quantity; image: a data URL of the answer, or of the row's image with the answer drawn on it; spans: what of
    the row's ``marked`` text is the answer, None where it is no part of a text; withheld: see ``Prediction``.
    """

    name: str
    value: str
    probability: float | None = None
    alternatives: Mapping[str, float] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    image: str | None = None
    spans: Sequence[Span] | None = None
    withheld: bool = False


@dataclass(frozen=True)
class ShownAnswer:
    """One row of the page. name: what names it beside its number; own: the user's other columns as text; marked: the
    text that spans lie in; image: a data URL of its image; error: why it has no answers.
    """

    row: int
    name: str = ""
    targets: Sequence[ShownTarget] = ()
    own: Mapping[str, str] = field(default_factory=dict)
    marked: str = ""
    image: str | None = None
    warnings: Sequence[str] = ()
    error: str | None = None


class AnswersPage:
    """A page that is filled row by row, up to ``MOST_ROWS`` rows and ``MOST_CHARACTERS``; the others are counted.

    colors: of the labels of spans.
    """

    def __init__(self, title: str, colors: Mapping[str, str]) -> None:
        self._title, self._colors = title, colors
        self._cards: list[str] = []
        self._size = self._rows = self._rejected = 0

    @property
    def full(self) -> bool:
        """Whether another row would only be counted."""
        return len(self._cards) >= MOST_ROWS or self._size >= MOST_CHARACTERS

    def count(self, *, rejected: bool) -> None:
        """A row that is not shown, or not yet."""
        self._rows += 1
        self._rejected += rejected

    def add(self, answer: ShownAnswer) -> None:
        """A row that was counted."""
        self._cards.append(_card(answer, self._colors))
        self._size += len(self._cards[-1])

    def html(self) -> str:
        """The whole document."""
        css = resources.files("polydetr.reports").joinpath("answers.css").read_text(encoding="utf-8")
        shown = len(self._cards)
        parts = [f"{_counted(self._rows, 'row')}, {self._rows - self._rejected:,} answered"]
        if self._rejected:
            parts.append(f"{self._rejected:,} rejected")
        if shown < self._rows:
            parts.append(f"the first {shown:,} are shown")
        return page(self._title, f"<style>\n{css}</style>\n<p>{', '.join(parts)}.</p>\n" + "\n".join(self._cards))


def _card(answer: ShownAnswer, colors: Mapping[str, str]) -> str:
    name = f" · {plain_html(answer.name)}" if answer.name else ""
    parts = [f'<article class="row" id="row-{answer.row}">\n<h2>row {answer.row:,}{name}</h2>']
    if answer.error is not None:
        parts.append(f'<p class="check bad"><strong>Rejected.</strong> {plain_html(answer.error)}</p>')
    for target in answer.targets:
        parts.append(_target(target))
        if target.spans is not None and answer.marked:
            parts.append(marked_text(answer.marked, target.spans, colors))
        if target.image:
            parts.append(f'<img src="{target.image}" alt="{plain_html(f"{target.name}: {target.value}")}">')
    if answer.image:
        parts.append(f'<img src="{answer.image}" alt="{plain_html(answer.name or f"image of row {answer.row}")}">')
    parts += [f'<p class="caution">{plain_html(line)}</p>' for line in answer.warnings]
    if answer.own:
        own = "".join(f'<dt>{plain_html(_cut(k))}</dt><dd dir="auto">{plain_html(_cut(v))}</dd>'
                      for k, v in answer.own.items())  # fmt: skip
        parts.append(f'<dl class="own">{own}</dl>')
    return "\n".join([*parts, "</article>"])


def _target(target: ShownTarget) -> str:
    value = plain_html(_cut(target.value)) or "nothing"
    low_high = "" if target.interval is None else f"{target.interval[0]:.4g} to {target.interval[1]:.4g}"
    level = "withheld, " if target.withheld else ""
    level += low_high if target.probability is None else f"{in_words(target.probability)} {target.probability:.2f}"
    kind, name = "target withheld" if target.withheld else "target", plain_html(target.name)
    head = (
        f'<div class="{kind}"><span class="name">{name}</span> <span class="value" dir="auto">{value}</span> '
        f'<span class="level">{level.rstrip(", ")}</span>'
    )
    ranked = sorted(target.alternatives.items(), key=lambda pair: -pair[1])[:_ALTERNATIVES]
    return f"{head}{_alternatives(ranked)}</div>"


def _alternatives(ranked: Sequence[tuple[str, float]]) -> str:
    if not ranked:
        return ""
    lines = "".join(
        f'<li><span dir="auto">{plain_html(_cut(label, 60))}</span>'
        f'<span class="track"><i style="width:{100 * p:.1f}%"></i></span><span class="number">{p:.3f}</span></li>'
        for label, p in ranked
    )
    return f'<ul class="others">{lines}</ul>'


def _cut(text: str, limit: int = _LONGEST_CELL) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"
