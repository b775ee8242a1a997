"""The images of an explanation, drawn with matplotlib: each beside itself in gray under its heat map, and, where the
answer is an object, under the attention of the object's query.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polydetr.reports.explained import ExplainedImage, Sources
from polydetr.reports.heat import STRONG, caption, gaze_overlay, outline, overlay
from polydetr.reports.style import BLUE, FAINT, INK, ORANGE, shorten
from polydetr.reports.words_png import put_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIDE, _GAP, _FOOT = 1.78, 0.06, 0.28  # inches
_FINE = 120  # an image of fewer pixels per side is shown as the squares it is made of


def image_height(image: ExplainedImage) -> float:
    """Inches that ``draw_image`` takes from top to bottom."""
    return _size(image)[1] + _FOOT


def draw_image(figure: Figure, x: float, y: float, sources: Sources, image: ExplainedImage) -> None:
    """From (x, y), inches from the left and the top; two panels, three for an object; the caption below."""
    width, height = _size(image)
    gray = image.pixels.mean(-1) / 255 * 0.6 + 0.34
    panels = [(image.pixels, None, None), (gray, overlay(sources.strength(image)), sources.strength(image))]
    if image.gaze is not None:
        panels.append((gray, gaze_overlay(image.gaze), None))
    for number, (under, over, strength) in enumerate(panels):
        axes = _panel(figure, x + number * (width + _GAP), y, width, height)
        coarse = "nearest" if max(under.shape[:2]) < _FINE else "bilinear"
        axes.imshow(under, extent=(0, 1, 1, 0), aspect="auto", cmap="gray", vmin=0, vmax=1, interpolation=coarse)
        if over is not None:
            axes.imshow(over, extent=(0, 1, 1, 0), aspect="auto", interpolation="bilinear")
        if image.box is not None:
            left, top, right, bottom = image.box
            frame = (left, right, right, left, left), (top, top, bottom, bottom, top)
            axes.plot(*frame, color="white", linewidth=2.6)
            axes.plot(*frame, color=INK, linewidth=1.2, linestyle="-" if over is None else (0, (3, 2)))
        if strength is not None:
            _lines(axes, strength)
        axes.set_xlim(0, 1)
        axes.set_ylim(1, 0)
    limit = 56 if len(panels) == 2 else 90
    put_text(figure, x, y + height + 0.14, shorten(caption(sources, image), limit), fontsize=8.5, color=FAINT)


def _size(image: ExplainedImage) -> tuple[float, float]:
    """Inches of one panel: the image's own proportions within a square."""
    height, width = image.pixels.shape[:2]
    return _SIDE * min(1.0, width / height), _SIDE * min(1.0, height / width)


def _panel(figure: Figure, x: float, y: float, wide: float, tall: float) -> Axes:
    width, height = figure.get_size_inches()
    axes = figure.add_axes((x / width, 1 - (y + tall) / height, wide / width, tall / height))
    axes.set_axis_off()
    return axes


def _lines(axes: Axes, strength: np.ndarray) -> None:
    """Around the strongest cells."""
    rows, columns = strength.shape
    for chosen, color, style in ((strength >= STRONG, BLUE, "-"), (strength <= -STRONG, ORANGE, ":")):
        edges = [((x0 / columns, x1 / columns), (y0 / rows, y1 / rows)) for (x0, y0), (x1, y1) in outline(chosen)]
        for across, down in edges:
            axes.plot(across, down, color="white", linewidth=2.8, solid_capstyle="round")
        for across, down in edges:
            axes.plot(across, down, color=color, linewidth=1.4, linestyle=style)
