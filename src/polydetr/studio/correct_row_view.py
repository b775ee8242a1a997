"""A row's inputs as they are read beside its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polydetr.errors import PolydetrError
from polydetr.serving.contract import Row
from polydetr.serving.rows import Columns
from polydetr.web.components.box_editor import ShownImage
from polydetr.web.markup import box, text
from polydetr.web.words import Words

_MOST = 20_000
"""Characters of a cell that are shown."""
_MOST_ITEMS = 20


def shown_images(row: Row, columns: Columns) -> dict[str, list[ShownImage | PolydetrError]]:
    """The images of a row, column by column; what cannot be shown is an error in its place. Blocks."""
    found: dict[str, list[ShownImage | PolydetrError]] = {}
    for name in columns.inputs:
        value = row.get(name)
        each = value if isinstance(value, list) else [value]
        for one in each:
            if isinstance(one, bytes):
                found.setdefault(name, []).append(_shown(one))
    return found


def _shown(content: bytes) -> ShownImage | PolydetrError:
    try:
        return ShownImage.of(content)
    except PolydetrError as error:
        return error


def show_row(
    words: Words, row: Row, columns: Columns, images: Mapping[str, Sequence[Any]], *, but: Sequence[str] = ()
) -> None:
    """The inputs, each with its name, but those that an editor shows."""
    names = [name for name in columns.inputs if name not in but]
    if not names:
        return
    with box("dl", "pd-inputs"):
        for name in names:
            text(name, "dt", dir="auto")
            with box("dd"):
                _cell(words, name, row.get(name), images.get(name, ()))


def _cell(words: Words, name: str, value: Any, images: Sequence[Any]) -> None:
    for one in images:
        if isinstance(one, ShownImage):
            box("img", "pd-picture", src=one.address, alt=words("correct.image", name=name))
        else:
            text(one.message, "p", "pd-note", dir="auto")
    if images:
        return
    if value is None or value == "":
        text(words("correct.missing"), "span", "pd-note")
    elif isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        with box("ol", "pd-items"):
            for one in value[-_MOST_ITEMS:]:
                text(_item(one), "li", dir="auto")
        if len(value) > _MOST_ITEMS:
            text(words("correct.more", count=len(value) - _MOST_ITEMS), "p", "pd-note")
    else:
        said = " ".join(map(str, value)) if isinstance(value, list) else str(value)
        text(said if len(said) <= _MOST else f"{said[:_MOST]}…", "p", "pd-text", dir="auto")


def _item(item: Any) -> str:
    if not isinstance(item, Mapping):
        return str(item)[:500]
    return " · ".join(f"{name}: {value}" for name, value in item.items() if not isinstance(value, bytes))[:500]
