"""Images in a grid, each with what it is called below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polydetr.web.markup import box, link, text


@dataclass(frozen=True)
class Shown:
    """source: a data: address, or one of this service; file: the name under which it is kept."""

    source: str
    name: str
    file: str = ""


def image_grid(found: Sequence[Shown], *, download: str = "") -> None:
    """download: the words of a link below each that keeps it as ``file``."""
    with box("div", "pd-grid", role="list"):
        for one in found:
            with box("figure", "pd-figure", role="listitem"):
                box("img", "pd-generated", src=one.source, alt=one.name)
                with box("figcaption"):
                    text(one.name, "span", dir="auto")
                    if download and one.file:
                        link(download, one.source, icon="download", classes="pd-small", download=one.file)
