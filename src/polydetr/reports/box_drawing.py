"""Boxes drawn on an image with Pillow: thin enough to see through, labeled so that no label hides another."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polydetr.core.files import save_bytes
from polydetr.core.predictions import is_withheld, label_of
from polydetr.reports.fonts import PLAIN_FAMILY, cjk_family, drawable
from polydetr.reports.label_names import label_names
from polydetr.reports.style import ink_on, label_colors, shorten
from polydetr.values.images import open_image

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

Rectangle = tuple[float, float, float, float]
_LONG_SIDE = 960  # smaller images are enlarged to it, so that labels stay small beside the objects
_NAMED = 30  # above so many boxes a label shows the score alone, and a legend below explains the colors
_MOST_TAGS = 120
_TAG_WIDTH = 36


def draw_boxes(image: Any, objects: Sequence[Mapping[str, Any]], *, colors: Mapping[str, str] | None = None) -> Image:
    """The image (a path, an array or a Pillow image) with ``objects`` on it; small images come back enlarged.

    Each object has "box" [left, top, right, bottom] in pixels of the image, "label", and maybe "score"; one that is
    withheld has a dashed outline, and its tag says so. colors: by label, as :func:`label_colors` gives them; name all
    the labels of the model to keep a label's color from image to image.

    Raises:
        RowError: the image cannot be read.
    """
    colors = colors or label_colors(o["label"] for o in objects)
    drawn = open_image(image)  # the caller's own where it is a Pillow image: it is not drawn on
    scale = max(1.0, _LONG_SIDE / max(drawn.size))
    drawn = drawn.resize((round(drawn.width * scale), round(drawn.height * scale))) if scale > 1 else drawn.copy()
    many = len(objects) > _NAMED
    canvas = BoxCanvas(drawn, scale=scale)
    by_score = sorted(objects, key=lambda o: o.get("score", 1.0))
    for one in by_score:  # the highest-scoring on top
        canvas.outline(one["box"], colors[one["label"]], dashed=is_withheld(one))
    for one in reversed(by_score[-_MOST_TAGS:]):
        score = f"{one['score']:.2f}" if "score" in one else ""
        text = score if many and score and not is_withheld(one) else f"{label_of(one)} {score}".strip()
        canvas.tag(one["box"], text, colors[one["label"]])
    if not many:
        return canvas.image
    counts = {name: sum(o["label"] == name and not is_withheld(o) for o in objects) for name in colors}
    names = label_names(colors, limit=_TAG_WIDTH)
    return _with_legend(canvas.image, {f"{names[n]}  {c}": colors[n] for n, c in counts.items() if c})


def save_boxes(path: str | Path, image: Any, objects: Sequence[Mapping[str, Any]], **options: Any) -> Path:
    """Writes what :func:`draw_boxes` draws, as PNG or, for a name that ends in .jpg, as JPEG."""
    return save_bytes(path, encoded(draw_boxes(image, objects, **options), jpeg=Path(path).suffix in (".jpg", ".jpeg")))


def encoded(image: Image, *, jpeg: bool = False) -> bytes:
    """The bytes of a PNG or JPEG file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88) if jpeg else image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def data_url(image: Image, *, jpeg: bool = False) -> str:
    """The image as an address that holds all of it, for pages that need no other file."""
    return f"data:image/{'jpeg' if jpeg else 'png'};base64,{b64encode(encoded(image, jpeg=jpeg)).decode()}"


class BoxCanvas:
    """An image being drawn on. Boxes are given in its own pixels before it was enlarged by ``scale``."""

    def __init__(self, image: Image, *, scale: float = 1.0, text_size: int | None = None) -> None:
        from PIL import ImageDraw

        self.image = image
        self.scale = scale
        self._pen: ImageDraw = ImageDraw.Draw(image)
        self._line = max(3, round(max(image.size) / 320))
        self._size = text_size or max(13, round(max(image.size) / 62))
        self._tags: list[Rectangle] = []

    def outline(self, box: Sequence[float], color: str, *, dashed: bool = False, faint: bool = False) -> None:
        """A rectangle in ``color`` on a darker one, so that it stands out from any background."""
        left, top, right, bottom = (round(v * self.scale) for v in box)
        line = max(1, self._line // 2) if faint else self._line
        line = max(1, min(line, round(min(right - left, bottom - top) / 8)))  # a tiny object stays visible
        right, bottom = max(right - 1, left + 1), max(bottom - 1, top + 1)
        if dashed:
            strokes = ((color, line),) if faint else (("#101418", line + 2), (color, line))
            for fill, width in strokes:
                self._dashes((left, top, right, bottom), fill, width, step=5 * line)
            return
        if not faint:
            self._pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline="#101418", width=line + 2)
        self._pen.rectangle((left, top, right, bottom), outline=color, width=line)

    def _dashes(self, box: tuple[int, int, int, int], color: str, line: int, *, step: int) -> None:
        left, top, right, bottom = box
        for x in range(left, right, 2 * step):
            for y in (top, bottom):
                self._pen.line((x, y, min(x + step, right), y), fill=color, width=line)
        for y in range(top, bottom, 2 * step):
            for x in (left, right):
                self._pen.line((x, y, x, min(y + step, bottom)), fill=color, width=line)

    def tag(self, box: Sequence[float], text: str, color: str) -> None:
        """``text`` on a rectangle of ``color``, where it hides the least of the other tags and of a small box."""
        text = shorten(text, _TAG_WIDTH, keep_end=True)  # the score stands at the end
        text = drawable(text, family=family_for(text))
        font = text_font(self._size, text)
        pad = max(2, self._size // 5)
        width, height = self._pen.textlength(text, font=font) + 2 * pad, self._size + 2 * pad
        left, top, right, bottom = (v * self.scale for v in box)
        corners = [(left, top - height), (left, top), (right - width, top - height), (right - width, top),
                   (left, bottom), (left, bottom - height), (right - width, bottom), (right - width, bottom - height),
                   ((left + right - width) / 2, (top + bottom - height) / 2)]  # fmt: skip
        places = [self._inside(x, y, width, height) for x, y in corners]
        own, area = (left, top, right, bottom), max(1.0, (right - left) * (bottom - top))

        def hidden(place: Rectangle) -> float:
            tags = sum(_shared(place, other) for other in self._tags)
            return tags + width * height * min(1.0, 4 * _shared(place, own) / area) * (area < 12 * width * height)

        place = min(places, key=hidden)
        self._tags.append(place)
        self._pen.rectangle(place, fill=color)
        # The line of capitals is centered: a tag with descenders must not stand higher than its neighbors.
        middle = place[1] + height / 2
        self._pen.text((place[0] + pad, middle), text, font=font, fill=ink_on(color), anchor="lm")

    def _inside(self, x: float, y: float, width: float, height: float) -> Rectangle:
        x = min(max(0.0, x), max(0.0, self.image.width - width))
        y = min(max(0.0, y), max(0.0, self.image.height - height))
        return x, y, x + width, y + height


def _shared(one: Rectangle, other: Rectangle) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)


def _with_legend(image: Image, entries: Mapping[str, str]) -> Image:
    """The image with a white strip below it that explains the colors: text → color."""
    from PIL import Image as pillow
    from PIL import ImageDraw

    size = max(14, round(image.width / 60))
    font = text_font(size, "".join(entries))
    pen = ImageDraw.Draw(image)
    places: list[tuple[float, int]] = []
    x, line = float(size), 0
    for text in entries:
        width = pen.textlength(text, font=font) + 3.2 * size
        if x > size and x + width > image.width:
            x, line = float(size), line + 1
        places.append((x, line))
        x += width
    out = pillow.new("RGB", (image.width, image.height + round((1.7 * line + 2.2) * size)), "white")
    out.paste(image)
    pen = ImageDraw.Draw(out)
    for (text, color), (x, row) in zip(entries.items(), places, strict=True):
        middle = image.height + (1.7 * row + 1.1) * size
        pen.rectangle((x, middle - 0.45 * size, x + 0.9 * size, middle + 0.45 * size), fill=color)
        shown = drawable(text, family=family_for("".join(entries)))
        pen.text((x + 1.4 * size, middle), shown, font=font, fill="#1f2933", anchor="lm")
    return out


def family_for(text: str) -> str:
    """DejaVu Sans, or the font with Chinese, Japanese and Korean characters where ``text`` needs one: Pillow draws a
    text with one font.
    """
    return cjk_family() if any(ord(char) > 0x2E7F for char in text) else PLAIN_FAMILY


def text_font(size: int, text: str) -> FreeTypeFont:
    return _font(size, family_for(text))


@lru_cache(maxsize=64)
def _font(size: int, family: str) -> FreeTypeFont:
    from matplotlib import font_manager
    from PIL import ImageFont

    return ImageFont.truetype(font_manager.findfont(family), size)
