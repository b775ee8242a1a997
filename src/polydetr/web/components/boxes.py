"""Boxes on an image, with a slider of their scores. The browser draws them: moving the slider asks nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nicegui.element import Element

from polydetr.web.words import Words

_WORDS = ("least", "count", "label", "score", "place", "weak", "none", "unseen")


@dataclass(frozen=True)
class Box:
    """box: left, top, right, bottom in pixels of the upright image. weak: the answer is withheld."""

    box: tuple[float, float, float, float]
    label: str
    score: float
    color: str
    weak: bool = False


class Boxes(Element, component="boxes.js"):
    """source: a data: address, or ``upload:TOKEN`` of an image in the page's form. start: where the slider stands."""

    def __init__(self, words: Words, source: str, found: Sequence[Box], *, alt: str, start: float = 0.0) -> None:
        super().__init__()
        self._props["source"], self._props["alt"], self._props["start"] = source, alt, start
        self._props["boxes"] = [vars(one) for one in sorted(found, key=lambda one: -one.score)]
        self._props["words"] = {name: words(f"boxes.{name}") for name in _WORDS}
