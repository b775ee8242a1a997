"""One look for all images: colors that color-blind readers can tell apart, quiet axes, a font that has the
characters.

matplotlib is imported on first use. Figures are made without pyplot, so no window system and no global state is
touched.
"""

from __future__ import annotations

import colorsys
import io
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polydetr.core.files import save_bytes
from polydetr.errors import escaped
from polydetr.metrics.classification import display_width
from polydetr.reports.fonts import drawable, families

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, GRID = "#1f2933", "#6b7785", "#e4e7eb"
BLUE, ORANGE = "#2f6db3", "#d9691e"  # for and against; before and after
PALETTE = ("#2f6db3", "#d9691e", "#2a9d6f", "#b0468c", "#c79a00", "#4ba3c7", "#8c5a3c", "#6f5bb5", "#c43d4b", "#5f7f2e")
GOOD, BAD = "#1d7a52", "#b3382c"
DPI = 150


def label_colors(labels: Iterable[str]) -> dict[str, str]:
    """A color for each label, by its place among the sorted ones: the palette, then new hues."""
    names = sorted(set(labels))
    shades = ((0.75, 0.85), (0.5, 0.97), (0.85, 0.6))  # saturation and value, in turn
    more = (colorsys.hsv_to_rgb(i * 0.618 % 1, *shades[i % 3]) for i in range(len(names)))
    return {
        name: PALETTE[i] if i < len(PALETTE) else "#" + "".join(f"{round(255 * c):02x}" for c in next(more))
        for i, name in enumerate(names)
    }


def ink_on(color: str) -> str:
    """Black or white, whichever reads better on ``color`` (WCAG relative luminance)."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return "#000000" if 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.2 else "#ffffff"


@contextmanager
def _silenced(logger: str) -> Iterator[None]:
    """Most Chinese fonts come without a bold cut, and matplotlib would say so each time."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


@contextmanager
def canvas(width: float, height: float, *, path: str | Path) -> Iterator[Figure]:
    """A figure of ``width`` × ``height`` inches; on leaving, it is written to ``path`` as PNG, whole or not at all.

    A character that no font has is drawn as "?"; labels have names without any (``label_names``).
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    settings: Any = {
        "font.family": families(),
        "font.size": 10,
        "text.color": INK,
        "text.parse_math": False,  # a label such as "$5" is text, not a formula
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.unicode_minus": False,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "grid.color": GRID,
        "legend.frameon": False,
    }
    with matplotlib.rc_context(settings), _silenced("matplotlib.font_manager"):
        figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        for text in figure.findobj(Text):
            assert isinstance(text, Text)
            text.set_text(drawable(text.get_text()))
        content = png_of(figure)
    save_bytes(path, content)


def png_of(figure: Figure) -> bytes:
    """What it looks like: laid out and drawn, which takes longer than training a model of a few weights."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": "polydetr"})
    return buffer.getvalue()


def shorten(text: str, limit: int, *, keep_end: bool = False) -> str:
    """``text`` on one line and at most ``limit`` columns wide (a wide character takes two), the cut marked with "…".

    keep_end: cuts the middle instead, for names that differ at their ends.
    """
    text = escaped(" ".join(text.split()))
    if display_width(text) <= limit:
        return text
    tail = _head(text[::-1], limit // 3)[::-1] if keep_end else ""
    return _head(text, limit - 1 - display_width(tail)).rstrip() + "…" + tail


def _head(text: str, limit: int) -> str:
    """The longest beginning of ``text`` that fits; one pass, for a "word" may be 300,000 characters long."""
    used = 0
    for i, char in enumerate(text):
        used += display_width(char)
        if used > limit:
            return text[:i]
    return text


def quiet_grid(axes: Axes, axis: Any = "y") -> None:
    """Faint lines behind the data."""
    axes.grid(visible=True, axis=axis, linewidth=0.8)
    axes.set_axisbelow(True)
