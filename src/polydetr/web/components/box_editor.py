"""An image on which boxes are drawn, moved, resized, relabeled and removed, by mouse, touch, keys or typing."""

from __future__ import annotations

import io
import math
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polydetr.values.images import open_image
from polydetr.web.components.editor import Editor
from polydetr.web.words import Words

_NAMES = ("how", "add", "smaller", "larger", "remove", "flat", "left", "top", "right", "bottom")
_LONGEST_SIDE = 2048
"""Pixels of what a browser is sent; boxes count those of the image itself."""


@dataclass(frozen=True)
class ShownImage:
    """An image as a browser shows it. width, height: of the image itself, upright, in pixels."""

    address: str
    width: int
    height: int

    @classmethod
    def of(cls, content: bytes, *, longest: int = _LONGEST_SIDE) -> ShownImage:
        """As a ``data:`` address, upright, in a format that every browser shows. Blocks while it decodes.

        Raises:
            RowError: it cannot be read, or would take too much memory.
        """
        image = open_image(content)
        width, height = image.size
        image.thumbnail((longest, longest))
        file, kind = io.BytesIO(), "png" if width * height <= 256 * 256 else "jpeg"
        image.save(file, kind.upper(), **({"quality": 90} if kind == "jpeg" else {}))
        return cls(f"data:image/{kind};base64,{b64encode(file.getvalue()).decode()}", width, height)


class BoxEditor(Editor, component="box_editor.js"):
    """Boxes are {"box": [left, top, right, bottom], "label"}: pixels, the number of a label.

    It stands in an element of the class ``pd-editor`` with a ``LabelPicker(acts=True)``. Keys on the image: [ and ]
    choose a box, arrows move it by a pixel, with Ctrl ten, with Shift they resize it; Delete removes it, b makes one.
    """

    def __init__(
        self, image: ShownImage, boxes: Sequence[Mapping[str, Any]], labels: Sequence[str], colors: Sequence[str],
        words: Words, *, title: str, readonly: bool = False,
        on_change: Callable[[list[dict[str, Any]]], Any] | None = None, js: str = "",
    ) -> None:  # fmt: skip
        super().__init__(
            boxes, labels, colors, check=_checked, on_change=on_change, js=js, src=image.address, width=image.width,
            height=image.height, readonly=readonly, title=title,
            words={name: words(f"boxedit.{name}") for name in _NAMES},
        )  # fmt: skip


def _checked(value: Any, labels: int) -> list[dict[str, Any]]:
    """Raises ValueError: a browser sent what no editor makes."""
    found: list[dict[str, Any]] = []
    for one in value if isinstance(value, list) else [None]:
        box, label = (one.get("box"), one.get("label")) if isinstance(one, dict) else (None, None)
        if not isinstance(box, list) or len(box) != 4 or type(label) is not int or not 0 <= label < labels:
            raise ValueError("no list of boxes")
        if not all(type(side) in (int, float) and math.isfinite(side) for side in box):
            raise ValueError("a side of a box is no number")
        found.append({"box": [float(side) for side in box], "label": label})
    return found
