"""HTML elements on a page, from text that is text: what a user, a file or a model says is never read as HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from html import escape
from typing import Any

from nicegui import ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement


class Native(TextElement):
    """An element of HTML with a text, such as a heading or a button."""

    def __init__(self, tag: str, text: str = "", classes: str = "", **attributes: Any) -> None:
        super().__init__(tag=tag, text=text)
        self.classes(classes)
        self._props.update({name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()})


def text(words: str, tag: str = "p", classes: str = "", **attributes: Any) -> Native:
    """``words``, as they are."""
    return Native(tag, words, classes, **attributes)


def trusted(html: str, tag: str = "div", classes: str = "", **attributes: Any) -> ui.html:
    """HTML that this package has made: **every value in it was escaped** (``html.escape``, ``reports.marked_text``)."""
    element = ui.html(html, sanitize=False, tag=tag).classes(classes)
    element._props.update({name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()})
    return element


def box(tag: str = "div", classes: str = "", **attributes: Any) -> Native:
    """An element for others to stand in: ``with box("section"): ...``."""
    return Native(tag, "", classes, **attributes)


def button(
    words: str,
    on_click: Callable[..., Any] | None = None,
    *,
    kind: str = "plain",
    icon: str | None = None,
    key: str | None = None,
    **attributes: Any,
) -> Native:
    """kind: plain, primary, danger or quiet. icon: of ``ICONS``. key: the key that presses it, shown beside it."""
    element = Native("button", "", f"pd-button {kind}", type="button", **attributes)
    with element:
        if icon:
            trusted(icon_svg(icon), "span", "pd-icon", aria_hidden="true")
        text(words, "span")
        if key:
            element._props["data-key"] = key
            text(key, "kbd", aria_hidden="true")
    if on_click is not None:
        element.on("click", on_click, [])
    return element


def link(words: str, target: str, *, classes: str = "", icon: str | None = None, **attributes: Any) -> Native:
    """``target`` is an address of these pages, or of the service."""
    element = Native("a", "", classes, href=target, **attributes)
    with element:
        if icon:
            trusted(icon_svg(icon), "span", "pd-icon", aria_hidden="true")
        text(words, "span")
    return element


@contextmanager
def panel(title: str, *, note: str = "", classes: str = "", level: int = 2) -> Iterator[Native]:
    """A part of a page with a heading."""
    with box("section", f"pd-panel {classes}", aria_label=title) as section:
        text(title, f"h{level}")
        if note:
            text(note, "p", "pd-note")
        yield section


@contextmanager
def fact(name: str) -> Iterator[None]:
    """In a list of ``facts``: a name, and the block for what it is."""
    with box("div"):
        text(name, "dt", "pd-note")
        with box("dd"):
            yield


@contextmanager
def facts(told: Mapping[str, str]) -> Iterator[None]:
    """A list of names and what they are, without those of which nothing is known; the block adds others."""
    with box("dl", "pd-facts"):
        for name, value in told.items():
            if value:
                with box("div"):
                    text(name, "dt", "pd-note")
                    text(value, "dd", dir="auto")
        yield


def enabled(element: Element, on: bool) -> None:
    """A button that can be pressed, or cannot."""
    if on:
        element._props.pop("disabled", None)
    else:
        element._props["disabled"] = True
    element.update()


ICONS = {
    "ask": "M4 5h16v11H9l-5 4z M8 9h8 M8 12h5",
    "batch": "M4 5h16v14H4z M4 10h16 M4 14.5h16 M10 5v14",
    "correct": "M4 20l1-5L16 4l4 4L9 19z M13.5 6.5l4 4",
    "model": "M4 20V4 M4 20h16 M8 16v-4 M12 16V8 M16 16v-6",
    "runs": "M4 12h3l3-7 4 14 3-7h3",
    "people": "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8z M4 20c1-4 4-6 8-6s7 2 8 6",
    "sun": "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8z M12 2v3m0 14v3M2 12h3m14 0h3M5 5l2 2m10 10l2 2M5 19l2-2M17 7l2-2",
    "moon": "M20 14A8 8 0 0 1 10 4a8 8 0 1 0 10 10z",
    "system": "M3 5h18v11H3z M9 20h6 M12 16v4",
    "close": "M6 6l12 12 M18 6L6 18",
    "download": "M12 4v11 M7 11l5 5 5-5 M5 20h14",
    "upload": "M12 16V5 M7 9l5-5 5 5 M5 20h14",
    "play": "M7 5l12 7-12 7z",
    "stop": "M6 6h12v12H6z",
    "undo": "M9 6L4 11l5 5 M4 11h10a6 6 0 0 1 0 12h-2",
    "check": "M5 13l5 5L20 6",
    "next": "M9 5l7 7-7 7",
    "back": "M15 5l-7 7 7 7",
    "search": "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14z M16 16l5 5",
    "why": "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z M9.5 9.5a2.5 2.5 0 1 1 3.5 2.3c-.7.3-1 .8-1 1.7 M12 17v.5",
    "copy": "M8 8h12v12H8z M4 16V4h12",
    "camera": "M4 7h4l2-3h4l2 3h4v12H4z M12 9.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7z",
    "warning": "M12 3L2 20h20z M12 10v5 M12 17.5v.5",
    "filter": "M4 5h16l-6 8v6l-4-2v-4z",
}
"""Name → the lines of a drawing of 24 × 24."""


def icon_svg(name: str) -> str:
    """An icon as SVG, in the color of the text around it."""
    return (
        '<svg viewBox="0 0 24 24" width="20" height="20" fill="none" stroke="currentColor" stroke-width="1.7" '
        f'stroke-linecap="round" stroke-linejoin="round"><path d="{escape(ICONS[name])}"/></svg>'
    )
