"""Words as colored boxes on a figure, wrapped like text, and the scale of their colors. Places are in inches, from the
left and from the top.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from polydetr.reports.explanation import WordPlace
from polydetr.reports.fonts import drawable
from polydetr.reports.style import BLUE, FAINT, ORANGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, MARGIN, LINE = 8.0, 0.3, 0.36  # inches
_WORD_SIZE = 12


def word_widths(figure: Figure, words: Sequence[str]) -> list[float]:
    """Inches that each word takes, measured in the font it will be drawn in."""
    renderer = figure.canvas.get_renderer()  # pyright: ignore[reportAttributeAccessIssue]
    probe = figure.text(0, 0, "", fontsize=_WORD_SIZE)
    widths = []
    for word in words:
        probe.set_text(drawable(word))
        widths.append(probe.get_window_extent(renderer).width / figure.dpi)
    probe.remove()
    return widths


def lay_out(widths: Sequence[float], before: Sequence[WordPlace]) -> tuple[list[tuple[float, int]], int]:
    """(inches from the left, line number) of every word, and the number of lines. A new column, and a line feed of the
    text, begin a new line; a column leaves one free for its name.
    """
    places: list[tuple[float, int]] = []
    x, line = MARGIN, 0
    for width, place in zip(widths, before, strict=True):
        gap = 0.14 if place.gap else 0.07  # the box around a word reaches 0.03 beyond it on either side
        if place.column:
            x, line = MARGIN, line + (2 if places else 1)
        elif "\n" in place.gap or (places and x + gap + width > WIDTH - MARGIN):
            x, line = MARGIN, line + 1
        elif places:
            x += gap
        places.append((x, line))
        x += width
    return places, line + 1


def draw_word(figure: Figure, x: float, y: float, word: str, *, power: float) -> None:
    """A word in its box; ``power`` from -1 (against) to 1 (for)."""
    from matplotlib.colors import to_rgba

    fill = to_rgba(BLUE if power > 0 else ORANGE, 0.6 * abs(power))
    # A second mark beside the color: an outline around the words that carry most.
    edge = to_rgba(BLUE if power > 0 else ORANGE, 1.0 if abs(power) >= 0.5 else 0.0)
    style = {"boxstyle": "round,pad=0.18,rounding_size=0.2", "facecolor": fill, "edgecolor": edge, "linewidth": 1.2}
    style["linestyle"] = "-" if power > 0 else ":"
    put_text(figure, x, y, word, fontsize=_WORD_SIZE, bbox=style)


def draw_scale(figure: Figure, y: float, largest: float) -> None:
    """The scale of colors, from the strongest word against to the strongest for."""
    width, height = figure.get_size_inches()
    against, left = f"against −{largest:.2g}", 0.3
    begin = left + 0.075 * len(against)  # the label may be long: the bar begins behind it
    axes = figure.add_axes((begin / width, 1 - (y + 0.06) / height, 1.8 / width, 0.12 / height))
    from matplotlib.colors import to_rgb

    ramp = np.linspace(-1, 1, 201)
    colors = np.array([to_rgb(BLUE if value > 0 else ORANGE) for value in ramp])
    mixed = 1 - 0.6 * np.abs(ramp)[:, None] * (1 - colors)
    axes.imshow(mixed[None], aspect="auto", extent=(-1, 1, 0, 1))
    axes.set_axis_off()
    put_text(figure, left, y, against, fontsize=9, color=FAINT)
    put_text(figure, begin + 1.88, y, f"+{largest:.2g} for the prediction", fontsize=9, color=FAINT)


def put_text(figure: Figure, x: float, y: float, text: str, **style: Any) -> None:
    """Places ``text`` at inches from the left and from the top, its line centered on ``y``."""
    width, height = figure.get_size_inches()
    figure.text(x / width, 1 - y / height, text, va="center_baseline", **style)
