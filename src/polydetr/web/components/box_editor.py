"""An image on which boxes are drawn, moved, resized, relabeled and removed, by mouse, touch, keys or typing."""

from __future__ import annotations

import io
import math
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from polydetr.values.images import open_image
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


class BoxEditor(Element, component="box_editor.js"):
    """Boxes are {"box": [left, top, right, bottom], "label"}: pixels, the number of a label.

    It stands in an element of the class ``pd-editor`` with a ``LabelPicker(acts=True)``. Keys on the image: [ and ]
    choose a box, arrows move it by a pixel, with Ctrl ten, with Shift they resize it; Delete removes it, b makes one.
    """

    def __init__(
        self, image: ShownImage, boxes: Sequence[Mapping[str, Any]], labels: Sequence[str], colors: Sequence[str],
        words: Words, *, title: str, readonly: bool = False,
        on_change: Callable[[list[dict[str, Any]]], Any] | None = None, js: str = "",
    ) -> None:  # fmt: skip
        """js: run in the browser with each ``value`` that is told."""
        super().__init__()
        self._props.update({
            "src": image.address, "width": image.width, "height": image.height, "boxes": list(boxes),
            "labels": list(labels), "colors": list(colors), "readonly": readonly, "title": title,
            "words": {name: words(f"boxedit.{name}") for name in _NAMES},
        })  # fmt: skip

        def changed(event: GenericEventArguments) -> None:
            found = _checked(event.args, image, len(self._props["labels"]))
            self._props["boxes"] = found  # the browser shows it already
            if on_change is not None:
                on_change(found)

        self.on("change", changed, js_handler=f"(value) => {{ {js}; emit(value); }}")

    def show(self, boxes: Sequence[Mapping[str, Any]]) -> None:
        """Other boxes of the same image."""
        self._props["boxes"] = list(boxes)
        self.update()

    def name(self, labels: Sequence[str], colors: Sequence[str]) -> None:
        """Other labels, such as the same with one that is new behind them."""
        self._props["labels"], self._props["colors"] = list(labels), list(colors)
        self.update()


def _checked(value: Any, image: ShownImage, labels: int) -> list[dict[str, Any]]:
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
