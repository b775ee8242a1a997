"""A number with its interval."""

from __future__ import annotations

import math

from polydetr.web.components.number_text import number_text
from polydetr.web.markup import box, text, trusted
from polydetr.web.words import Words


def digits(value: float, interval: tuple[float, float] | None = None) -> str:
    """The number with the digits that mean something: those down to about a thirtieth of the interval; else four."""
    width = interval[1] - interval[0] if interval else 0.0
    if width <= 0 or not math.isfinite(width):
        return number_text(value)
    after = min(9, max(0, math.ceil(1.5 - math.log10(width))))
    return f"{value:,.{after}f}"


def quantity(
    words: Words, value: float, interval: tuple[float, float] | None = None, *, level: float = 0.9,
    within: tuple[float, float] | None = None,
) -> None:  # fmt: skip
    """The number large, below it the interval in words and drawn. within: both ends of the drawn line, by default a
    little wider than the interval.
    """
    text(digits(value, interval), "p", "pd-big pd-left")
    if interval is None:
        return
    low, high = interval
    said = words("quantity.interval", percent=f"{level:.0%}", low=digits(low, interval), high=digits(high, interval))
    text(said, "p", "pd-note")
    ends = within or (low, high)
    begin, end = min(ends[0], low, value), max(ends[1], high, value)
    width = (end - begin) or 1.0
    begin, width = begin - 0.05 * width, 1.1 * width

    def place(number: float) -> str:
        return f"{100 * (number - begin) / width:.2f}%"

    line = (
        f'<i style="left:{place(low)};width:{100 * (high - low) / width:.2f}%"></i><b style="left:{place(value)}"></b>'
    )
    with box("div", "pd-range", aria_hidden="true"):
        trusted(line, "div", "pd-bar")
        with box("div", "pd-ends"):
            text(digits(min(ends[0], low, value), interval), "span")
            text(digits(end, interval), "span")
