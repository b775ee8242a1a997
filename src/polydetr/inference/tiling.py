"""Objects in images much larger than what a model sees: detected tile by tile, in pixels of the whole image.

Tiles overlap, and each owns the part of the image that is nearest to its center; the parts cover the image once. A box
counts where its center lies in the part of the tile that it was detected in. So no object is detected twice and no box
has to be suppressed, as long as an object fits into the overlap and the tiles agree on where its center is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from polydetr.errors import InputError
from polydetr.inference.asked import target_of
from polydetr.inference.model import LoadedModel

_AT_ONCE = 16
"""Tiles that are cut out and predicted together: a bound on memory."""


class Tile(NamedTuple):
    """What the model sees, and the part of it that the tile owns: (left, top, right, bottom), the last two excluded."""

    shown: tuple[int, int, int, int]
    owned: tuple[float, float, float, float]


def tiles_of(width: int, height: int, *, tile: int, overlap: int) -> list[Tile]:
    """Tiles of ``tile`` pixels per side (smaller only where the image is), row by row. Two neighbors share at least
    ``overlap`` pixels, and the border between the parts that they own is in the middle of those.

    Raises:
        InputError: the overlap is not smaller than the tile.
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
    model: LoadedModel, image: Any, *, target: str | None = None, tile: int = 640, overlap: int = 128
) -> list[dict[str, Any]]:
    """The objects of one image (a path, bytes, an array or a Pillow image), the highest-scoring first. A file may have
    as many pixels as the model was trained or loaded with (``max_pixels``), an array any number.

    tile: pixels per side of what the model sees at once; best near the size of the training images, so that objects
    have the size they had there. overlap: larger than the largest object. target: which, where the model has several.

    Raises:
        InputError: the model has no detection target, or the overlap is not smaller than the tile. RowError: the image
            cannot be read.
    """
    name = target_of(target, [t.name for t in model.schema.targets if t.task == "detection"], kind="detection")
    field = model.schema.names("image")[0]
    whole = model.open_image(image, column=field)
    tiles = tiles_of(*whole.size, tile=tile, overlap=overlap)
    objects = []
    for start in range(0, len(tiles), _AT_ONCE):
        part = tiles[start : start + _AT_ONCE]
        answers = model.predict([{field: whole.crop(one.shown)} for one in part])
        for one, answer in zip(part, answers, strict=True):
            objects += _owned(answer[name], one)
    return sorted(objects, key=lambda item: -item["score"])


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
