"""Why an answer was given: words for and against, columns as bars, and whether deleting them says the same."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

import numpy as np

from polydetr.errors import RowError
from polydetr.reports.explained import ExplainedColumn, ExplainedImage, Sources, shown_level
from polydetr.reports.images_html import panels_html
from polydetr.serving.rows import Item
from polydetr.values.framing import shown_part
from polydetr.values.images import list_images, open_image
from polydetr.web.components.bars import Bar, signed_bars
from polydetr.web.components.marked import Weighed, weighed_text
from polydetr.web.markup import box, text, trusted
from polydetr.web.words import Words

_MOST_WORDS = 3_000
_MOST_BARS = 30


def show_why(words: Words, found: Mapping[str, Any], images: Sources | None = None) -> None:
    """found: ``Explanation.to_dict``, or {"error"}; images: what ``images_of`` makes of it."""
    if error := found.get("error"):
        text(error["message"], "p", "pd-strong", dir="auto")
        if error.get("hint"):
            text(error["hint"], "p", dir="auto")
        return
    text(words("why.title", answer=found["answer"]), "p", "pd-strong", dir="auto")
    _words(words, found)
    columns = found["columns"]
    if len(columns) > 1:
        text(words("why.columns"), "h4")
        signed_bars(words, column_bars(found))
    if items := found["items"]:
        text(words("why.items"), "h4")
        found_items = [
            Bar(f"{one['column']} {one['index'] + 1}", one["score"], note=_cut(one["text"]))
            for one in items[:_MOST_BARS]
        ]
        signed_bars(words, found_items)
    for image in found["images"]:
        place = words.known(f"why.place.{image['place'].replace(' ', '_')}", image["place"])
        said = words("why.image", column=image["column"], place=place)
        if images is not None:
            shown = next(o for o in images.images if (o.column, o.index) == (image["column"], image["index"]))
            trusted(panels_html(images, shown, said, looked=words("why.looked")), "div", "images")
        text(said, "p", "pd-note")
    text(verdict(words, found), "p", "pd-verdict good" if found["meaningful"] else "pd-verdict")
    if found["notes"]:
        with box("details", "pd-more"):
            text(words("why.notes"), "summary")
            for note in found["notes"]:
                text(note, "p", "pd-note", dir="auto")


def images_of(row: Item, found: Mapping[str, Any]) -> Sources | None:
    """The images of a row with their heat maps; None where there are none. Blocks while they are decoded.

    Raises:
        RowError: one cannot be read.
    """
    if isinstance(row, RowError):
        return None
    images = [
        ExplainedImage(
            one["column"], one["index"], np.array(one["heat"]), fit=one["fit"], box=one.get("box"),
            pixels=shown_part(open_image(list_images(row[one["column"]])[one["index"]]), fit=one["fit"]),
            gaze=np.array(one["gaze"]) if "gaze" in one else None,
        )
        for one in found.get("images", ())
    ]  # fmt: skip
    columns = [ExplainedColumn(**one) for one in found.get("columns", ())]
    return Sources(columns, {}, 0.0, {}, images=images) if images else None


def _words(words: Words, found: Mapping[str, Any]) -> None:
    every = found["words"][:_MOST_WORDS]
    if not every:
        return
    text(words("why.legend"), "p", "pd-note")
    for column, part in groupby(every, key=lambda word: word["field"]):
        if len({word["field"] for word in every}) > 1:
            text(column, "h4", dir="auto")
        weighed_text(weighed(list(part), largest=_largest(every)))
    if len(found["words"]) > len(every):
        text(words("why.cut", count=f"{len(every):,}", all=f"{len(found['words']):,}"), "p", "pd-note")


def weighed(part: list[Mapping[str, Any]], *, largest: float) -> list[Weighed]:
    """Words with their weights, the strongest of the explanation being 1."""
    return [
        Weighed(word["text"], word["score"] / largest, word.get("before", ""), bool(word.get("in_answer")))
        for word in part
    ]


def _largest(every: list[Mapping[str, Any]]) -> float:
    return max((abs(word["score"]) for word in every), default=0.0) or 1.0


def column_bars(found: Mapping[str, Any]) -> list[Bar]:
    """The columns, the strongest first, at most ``_MOST_BARS``."""
    ranked = sorted(found["columns"], key=lambda column: -abs(column["score"]))[:_MOST_BARS]
    return [Bar(one["column"], one["score"], number=f"{one['score']:+.2g}", note=_cut(one["value"])) for one in ranked]


def verdict(words: Words, found: Mapping[str, Any]) -> str:
    """The deletion check in a sentence."""
    deletion = found["deletion"]
    if deletion is None:
        return words("why.unchecked")
    levels = {
        name: shown_level(float(deletion[key]), measure=found["measure"])
        for name, key in (("before", "original"), ("top", "without_top"), ("random", "without_random"))
    }
    return words("why.meaningful" if found["meaningful"] else "why.doubtful", **levels)


def _cut(value: Any) -> str:
    said = str(value)
    return said if len(said) <= 60 else f"{said[:59]}…"
