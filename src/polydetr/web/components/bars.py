"""Bars from zero: of shares with a threshold, and of what speaks for and against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polydetr.reports.marked_text import plain_html
from polydetr.reports.style import BLUE, ORANGE
from polydetr.web.markup import box, trusted
from polydetr.web.words import Words


@dataclass(frozen=True)
class Bar:
    """value: 0 to 1, or -1 to 1 where it has a sign. number: as it is shown, by default with two digits. chosen: it is
    the answer, or one of them. note: what stands below its name.
    """

    name: str
    value: float
    color: str = ""
    number: str = ""
    chosen: bool = False
    note: str = ""


def bars(words: Words, found: Sequence[Bar], *, threshold: float | None = None) -> None:
    """One line per bar. threshold: a mark across all of them, and its number below."""
    mark = "" if threshold is None else f'<b style="left:{100 * _within(threshold):.2f}%"></b>'
    lines = "".join(
        f'<div role="listitem" class="{"chosen" if one.chosen else ""}">'
        f'<span class="pd-bar-name" dir="auto">{"✓ " if one.chosen else ""}{plain_html(one.name)}</span>'
        f'<span class="pd-bar" aria-hidden="true"><i style="width:{100 * _within(one.value):.2f}%;{_color(one)}"></i>'
        f'{mark}</span><span class="pd-number">{plain_html(one.number or f"{one.value:.2f}")}</span></div>'
        for one in found
    )
    trusted(lines, "div", "pd-bars", role="list")
    if threshold is not None:
        box("p", "pd-note").set_text(words("bars.threshold", number=f"{threshold:.2f}"))


def signed_bars(words: Words, found: Sequence[Bar]) -> None:
    """To the right what speaks for it, to the left what speaks against it; the longest fills its side."""
    largest = max((abs(one.value) for one in found), default=0.0) or 1.0
    lines = "".join(_signed(words, one, one.value / largest) for one in found)
    trusted(lines, "div", "pd-bars pd-signed", role="list")


def _signed(words: Words, one: Bar, share: float) -> str:
    side = f"left:50%;width:{50 * share:.2f}%" if share >= 0 else f"right:50%;left:auto;width:{-50 * share:.2f}%"
    said = words("bars.for") if one.value > 0 else words("bars.against") if one.value < 0 else ""
    number = plain_html(one.number or f"{one.value:+.2f}")
    note = f'<small dir="auto">{plain_html(one.note)}</small>' if one.note else ""
    color = BLUE if share >= 0 else ORANGE
    return (
        f'<div role="listitem"><span class="pd-bar-name" dir="auto">{plain_html(one.name)}{note}</span>'
        f'<span class="pd-bar" aria-hidden="true"><i style="{side};--c:{color}"></i><b style="left:50%"></b></span>'
        f'<span class="pd-number">{number}<span class="pd-hidden"> {plain_html(said)}</span></span></div>'
    )


def _within(share: float) -> float:
    return min(1.0, max(0.0, share))


def _color(one: Bar) -> str:
    return f"--c:{plain_html(one.color)}" if one.color else ""
