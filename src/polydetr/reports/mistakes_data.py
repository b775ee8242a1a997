"""The very worst mistakes as JSON, for whoever draws them: a few of each kind, with the text around them or a small
image. All that is kept of them stands in the page beside it (``mistakes_page``).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from polydetr.core.mistakes import Mistakes, ShownMistake
from polydetr.core.records import Record
from polydetr.reports.box_drawing import data_url
from polydetr.reports.excerpts import excerpt

MOST = 12
"""Of a kind."""
_TILE = 160
"""Pixels of an image's longer side."""
_CELL = 300
"""Characters of a column."""


def worst_of(mistakes: Mistakes, image_of: Callable[[Record], Any]) -> dict[str, Any]:
    """rows, and kinds: kind → what it means, how many there are, and the worst of them."""
    return {
        "rows": mistakes.rows,
        "kinds": {
            kind: {
                "meaning": meaning,
                "count": mistakes.counts.get(kind, 0),
                "worst": [_told(one, image_of) for one in mistakes.shown.get(kind, ())[:MOST]],
            }
            for kind, meaning in mistakes.kinds.items()
        },
    }


def _told(one: ShownMistake, image_of: Callable[[Record], Any]) -> dict[str, Any]:
    mistake, (start, end) = one.mistake, excerpt(one.text, one.mistake.marks)
    marks = [
        {
            "start": max(m.start, start) - start,
            "end": min(m.end, end) - start,
            "label": m.label,
            "side": m.side,
            "focus": m.focus,
        }
        for m in mistake.marks
        if m.start < end and m.end > start
    ]
    place = one.record.location
    return {
        "gold": mistake.gold, "answer": mistake.answer, "confidence": mistake.confidence,
        "suspicious": mistake.suspicious, "note": mistake.note, "row": place.row,
        "file": Path(place.file).name if place.file else None,
        "text": one.text[start:end], "cut": [start > 0, end < len(one.text)], "marks": marks,
        "columns": [[name, value[:_CELL]] for name, value in one.columns if value],
        "image": _thumbnail(one, image_of),
    }  # fmt: skip


def _thumbnail(one: ShownMistake, image_of: Callable[[Record], Any]) -> str | None:
    """The row's image as an address that holds it; None where it has none, or one that cannot be opened any more."""
    if one.mistake.image is not None:
        return None  # what a page draws of generated pixels is more than a small image tells
    try:
        found = image_of(one.record)
        if found is None:
            return None
        image = found.open().copy()
    except Exception:  # it was read a moment ago; the others are told
        return None
    image.thumbnail((_TILE, _TILE))
    return data_url(image.convert("RGB"), jpeg=True)
