"""The images of an explanation as SVG in its page: each beside itself in gray under its heat map, and, where the answer
is an object, under the attention of the object's query. The page holds all images itself.
"""

from __future__ import annotations

from html import escape

import numpy as np
from numpy.typing import NDArray

from polydetr.reports.box_drawing import data_url
from polydetr.reports.explained import ExplainedImage, Sources
from polydetr.reports.heat import STRONG, caption, gaze_overlay, outline, overlay

_WIDTH = 480  # units of the drawing over an image
_FINE = 120  # an image of fewer pixels per side is shown as the squares it is made of


def images_html(sources: Sources) -> str:
    """Empty where there is none."""
    if not sources.images:
        return ""
    figures = "\n".join(_figure(sources, image) for image in sources.images)
    looked = "" if all(image.gaze is None for image in sources.images) else (
        " Purple is where the query that found the object looked; the frame is the object's box."
    )  # fmt: skip
    return (
        f"<h2>{'Image' if len(sources.images) == 1 else 'Images'}</h2>\n"
        f'<div class="images">\n{figures}\n</div>\n'
        '<p class="legend">Blue speaks for the answer, orange against it. Lines, solid for and dotted against, enclose '
        "the cells that carry at least half as much as the strongest of their column. Point at a cell to read its "
        f"score.{looked}</p>"
    )


def _figure(sources: Sources, image: ExplainedImage) -> str:
    text = caption(sources, image)
    return f"<figure>{panels_html(sources, image, text)}\n<figcaption>{escape(text)}</figcaption></figure>"


def panels_html(sources: Sources, image: ExplainedImage, text: str, looked: str = "where the query looked") -> str:
    """The image beside itself under its heat map, which ``text`` says in words, and under where a query ``looked``."""
    panels = [_panel(image, image.column), _panel(image, text, _heat(image, sources.strength(image)))]
    if image.gaze is not None:
        panels.append(_panel(image, looked, _layer(image, gaze_overlay(image.gaze))))
    return f'<div class="pair">{"".join(panels)}</div>'


def _panel(image: ExplainedImage, text: str, over: str = "") -> str:
    """The image with its box; in gray where something lies ``over`` it."""
    shown = _layer(image, image.pixels, coarse=max(image.pixels.shape[:2]) < _FINE)
    under = f'<g class="under">{shown}</g>' if over else shown
    frame = ""
    if image.box is not None:
        left, top, right, bottom = image.box
        width, height = _WIDTH, _height(image)
        place = f'x="{left * width:.1f}" y="{top * height:.1f}"'
        place += f' width="{(right - left) * width:.1f}" height="{(bottom - top) * height:.1f}"'
        frame = f'<rect class="box halo" {place}/><rect class="box" {place}/>'
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_height(image)}" role="img" aria-label="{escape(text, quote=True)}">'
        f"{under}{frame}{over}</svg>"
    )


def _heat(image: ExplainedImage, strength: NDArray[np.float64]) -> str:
    """The colors, the lines around the strongest cells, and every cell's score to be pointed at."""
    rows, columns = image.heat.shape
    across, down = _WIDTH / columns, _height(image) / rows
    lines = "".join(
        f'<path class="{name}" d="{path}"/>'
        for side, chosen in (("for", strength >= STRONG), ("against", strength <= -STRONG))
        if (path := _path(chosen, across, down))
        for name in ("halo", side)
    )
    cells = "".join(
        f'<rect class="cell" x="{across * j:.1f}" y="{down * i:.1f}" width="{across:.1f}" height="{down:.1f}">'
        f"<title>row {i + 1}, column {j + 1}: {image.heat[i, j]:+.4f}</title></rect>"
        for i in range(rows)
        for j in range(columns)
    )
    return f"{_layer(image, overlay(strength))}{lines}{cells}"


def _path(chosen: NDArray[np.bool_], across: float, down: float) -> str:
    return "".join(
        f"M{x0 * across:.1f} {y0 * down:.1f}L{x1 * across:.1f} {y1 * down:.1f}"
        for (x0, y0), (x1, y1) in outline(chosen)
    )


def _height(image: ExplainedImage) -> int:
    """Units of a drawing of the image's own proportions."""
    height, width = image.pixels.shape[:2]
    return round(_WIDTH * height / width)


def _layer(image: ExplainedImage, pixels: NDArray[np.uint8], *, coarse: bool = False) -> str:
    """Pixels, stretched over the whole drawing."""
    from PIL import Image

    place = f'width="{_WIDTH}" height="{_height(image)}" preserveAspectRatio="none"'
    return f'<image{" class=coarse" if coarse else ""} {place} href="{data_url(Image.fromarray(pixels))}"/>'
