"""Objects in pictures much larger than what a model sees: found tile by tile, in pixels of the whole.

Tiles overlap, and each owns the part of the picture that is nearest to its middle; the parts cover the picture once. A
box counts where its centre lies in the part of the tile that found it. So nothing is found twice and nothing has to be
suppressed, as long as an object fits into the overlap and tiles agree on where its centre is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from polydetr.errors import InputError, did_you_mean
from polydetr.values.images import open_image

if TYPE_CHECKING:
    from polydetr.inference.model import LoadedModel

_AT_ONCE = 16
"""Tiles that are cut out before the model is asked: a bound on memory."""


class Tile(NamedTuple):
    """What the model is shown, and the part of it that it owns: (left, top, right, bottom), the last two excluded."""

    shown: tuple[int, int, int, int]
    owned: tuple[float, float, float, float]


def tiles_of(width: int, height: int, *, tile: int, overlap: int) -> list[Tile]:
    """Tiles of ``tile`` pixels a side (smaller only where the picture is), row by row. Two neighbours share at least
    ``overlap`` pixels, and the border between what they own is in the middle of those.

    Raises InputError where the overlap is no part of the tile.
    """
    if tile < 1 or not 0 <= overlap < tile:
        raise InputError(f"tiles of {tile} pixels cannot overlap by {overlap}.", hint="Give 0 <= overlap < tile.")
    columns, rows = (_spans(length, tile, overlap) for length in (width, height))
    return [
        Tile((x.start, y.start, x.end, y.end), (x.own_start, y.own_start, x.own_end, y.own_end))
        for y in rows
        for x in columns
    ]


def predict_tiled(
    model: LoadedModel, picture: Any, *, target: str | None = None, tile: int = 640, overlap: int = 128
) -> list[dict[str, Any]]:
    """The objects of one picture (a path, bytes, an array or a Pillow image), the surest first.

    tile: pixels a side of what the model is shown at once; near to what it was trained on, objects look as they did
    then. overlap: larger than the largest object. target: which, where the model has several.

    Raises:
        InputError: the model finds no objects, or the overlap is no part of the tile. RowError: no picture.
    """
    name = _target(model, target)
    field = model.schema.names("image")[0]
    whole = open_image(picture, column=field)
    tiles = tiles_of(*whole.size, tile=tile, overlap=overlap)
    found = []
    for start in range(0, len(tiles), _AT_ONCE):
        part = tiles[start : start + _AT_ONCE]
        answers = model.predict([{field: whole.crop(one.shown)} for one in part])
        for one, answer in zip(part, answers, strict=True):
            found += _owned(answer[name], one)
    return sorted(found, key=lambda item: -item["score"])


def _owned(objects: Sequence[dict[str, Any]], tile: Tile) -> list[dict[str, Any]]:
    left, top, right, bottom = tile.owned
    kept = []
    for item in objects:
        box = [round(value + tile.shown[i % 2], 2) for i, value in enumerate(item["box"])]
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        if left <= x < right and top <= y < bottom:
            kept.append({**item, "box": box})
    return kept


class _Span(NamedTuple):
    start: int
    end: int
    own_start: float
    own_end: float


def _spans(length: int, tile: int, overlap: int) -> list[_Span]:
    """Tiles along one side, spread evenly; what they own covers everything, the outer ones to infinity."""
    count = 1 if length <= tile else 1 + -(-(length - tile) // (tile - overlap))
    starts = [round(i * (length - tile) / (count - 1)) for i in range(count)] if count > 1 else [0]
    ends = [min(length, start + tile) for start in starts]
    borders = [(end + start) / 2 for end, start in zip(ends, starts[1:], strict=False)]
    lower, upper = [float("-inf"), *borders], [*borders, float("inf")]
    return [_Span(*span) for span in zip(starts, ends, lower, upper, strict=True)]


def _target(model: LoadedModel, target: str | None) -> str:
    known = [spec.name for spec in model.schema.targets if spec.task == "detection"]
    if not known:
        raise InputError("this model finds no objects", hint="Train one: target='objects:detection'.")
    if target is not None and target not in known:
        raise InputError(f"{target!r} is no detection of this model. {did_you_mean(target, known)}")
    return target if target is not None else known[0]
