"""Images from whatever a cell holds: a path, bytes, an array, a PIL image, or a list of those.

Nothing is guessed: an image that cannot be read whole is an error that names what is wrong with it, never a gray
square. Every image comes out as it would be seen: upright, over white where it is transparent, in 8-bit RGB. Of an
animation, and of a file with several pages, the first image is decoded, and no other.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from polydetr.errors import InputError, Location, RowError
from polydetr.values.cells import is_empty
from polydetr.values.decoding import (
    ARRAYS,
    BROKEN,
    OUTSIDE,
    Fault,
    ImageReading,
    as_seen,
    check_size,
    decode,
    identified,
    read_image_file,
    room_for,
    to_uint8,
)  # fmt: skip
from polydetr.values.files import find_file


def list_images(value: object) -> list[object]:
    """The single images of a cell, none of them opened yet."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "OUS" and value.ndim == 1:  # a list column of a data frame
        value = value.tolist()
    if isinstance(value, np.ndarray | Image.Image):
        return [value]
    if is_empty(value):
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def open_image(value: object, *, column: str | None = None, reading: ImageReading | None = None) -> Image.Image:
    """One image, upright, in mode RGB. Raises :class:`RowError`."""
    with opened_image(value, column=column, reading=reading) as image:
        return image


@contextmanager
def opened_image(
    value: object, *, column: str | None = None, reading: ImageReading | None = None
) -> Iterator[Image.Image]:
    """:func:`open_image` for a block that needs the image no longer, so that few large ones are held at once. A block
    opens no other image.

    Raises:
        RowError: it cannot be read.
    """
    with ExitStack() as room:
        yield _open(value, column, reading or ImageReading(), room)


def outside_levels(image: Image.Image) -> float:
    """The share of an image's pixels, opened by this module, that ``ImageReading.levels`` cut off."""
    return image.info.get(OUTSIDE, 0.0)


def _open(value: object, column: str | None, reading: ImageReading, room: ExitStack) -> Image.Image:
    name = "the image"
    try:
        if isinstance(value, Mapping) and {"bytes", "path"} & value.keys():  # how Hugging Face's files hold an image
            value = value.get("bytes") or value.get("path")
        if isinstance(value, np.ndarray):
            return _from_array(value, reading)
        if isinstance(value, Image.Image):
            undecoded = isinstance(value, ImageFile) and bool(value.tile)
            check_size(value, reading if undecoded else None)
            if undecoded:
                room.enter_context(room_for(value))
            return as_seen(value, reading.levels)
        if isinstance(value, bytes | bytearray | memoryview):
            name = f"the image of {len(value)} bytes"
            return decode(bytes(value), reading, room)
        if isinstance(value, str | Path) and str(value).strip():
            name = f"{str(value)!r:.300}"
            return decode(read_image_file(find_file(value, reading.access, column=column), reading), reading, room)
        shown = "missing" if is_empty(value) else type(value).__name__
        raise Fault(
            f"is {shown}: {value!r:.80}", "Expected a path, bytes, a NumPy array, a PIL image or a list of them."
        )
    except Fault as fault:
        raise RowError(f"{name} {fault.what}", location=Location(column=column), hint=fault.hint) from None


def file_stamps(value: object, reading: ImageReading) -> Iterator[str]:
    """Size and time of every file that a cell names, so that a changed image is noticed without reading it."""
    for item in list_images(value):
        path = item.get("path") if isinstance(item, Mapping) and not item.get("bytes") else item
        if not isinstance(path, str | Path):
            continue
        try:
            status = find_file(path, reading.access).stat()
            yield f"{path}:{status.st_size}:{status.st_mtime_ns}"
        except (RowError, OSError, ValueError):
            yield f"{path}:absent"


def image_sources(value: object, reading: ImageReading) -> Iterator[Path | bytes]:
    """Where every image of a cell comes from, to compare them: its file, or its content where it is in memory. What
    names no file is passed over.
    """
    for item in list_images(value):
        held = item.get("bytes") or item.get("path") if isinstance(item, Mapping) else item
        if isinstance(held, np.ndarray | Image.Image):
            pixels = np.asarray(held)
            yield f"{pixels.shape}{pixels.dtype}".encode() + pixels.tobytes()
        elif isinstance(held, bytes | bytearray | memoryview):
            yield bytes(held)
        elif isinstance(held, str | Path):
            with suppress(RowError):
                yield find_file(held, reading.access)


def deep_values(value: object, reading: ImageReading) -> np.ndarray | None:
    """The values of some 10,000 pixels of an image of 16 bits; None for any other, or one that cannot be read. They are
    uint8 where Pillow gives the upper 8 bits alone: in color.
    """
    try:
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, str | Path):
            value = read_image_file(find_file(value, reading.access), reading)
        if isinstance(value, bytes | bytearray | memoryview):
            value = identified(bytes(value))
        if isinstance(value, Image.Image):
            if not value.mode.startswith("I") and not _is_deep_color(value):
                return None
            check_size(value, reading)
            with room_for(value):
                return _some(np.asarray(value))
    except (Fault, RowError, *BROKEN):
        return None  # told when the row is encoded
    deep = isinstance(value, np.ndarray) and value.dtype.kind in "ui" and value.dtype.itemsize > 1 and value.size
    return _some(value) if deep else None  # type: ignore[arg-type]


def _some(array: np.ndarray) -> np.ndarray:
    return array.ravel()[:: max(1, array.size // 10_000)]


def _is_deep_color(image: Image.Image) -> bool:
    return isinstance(image, ImageFile) and any(";16" in str(tile[3]) for tile in image.tile)


def _from_array(array: np.ndarray, reading: ImageReading) -> Image.Image:
    """The image of an array (H, W), (H, W, 3) or (H, W, 4). Raises :class:`Fault`."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        several = array.ndim == 4
        hint = "The channels come last: use array.transpose(1, 2, 0)." if first else ARRAYS
        raise Fault(f"is an array of shape {array.shape}.", "Give several images as list(array)." if several else hint)
    shown = as_seen(Image.fromarray(to_uint8(array, reading.levels)), reading.levels)
    if array.dtype.kind in "ui" and (outside := reading.levels.outside(array)):
        shown.info[OUTSIDE] = outside
    return shown


def png_bytes(image: np.ndarray) -> bytes:
    """An image, uint8 (H, W), (H, W, 1) or (H, W, 3), as the content of a PNG file; no pixel changes.

    Raises:
        InputError: an array of another shape or type.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        raise InputError(
            f"an array of {image.dtype} {image.shape} is no image: expected uint8 (H, W), (H, W, 1) or (H, W, 3)."
        )
    plain = image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image
    buffer = io.BytesIO()
    Image.fromarray(plain).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
