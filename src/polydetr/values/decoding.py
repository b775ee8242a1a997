"""The content of an image's file, decoded: bounded before it is, upright, over white, in 8-bit RGB.

A file of a few kilobytes may hold an image of gigabytes: its pixels are bounded before it is decoded, and so are those
of all images that are decoded at once (``Room``), in however many threads.
"""

from __future__ import annotations

import functools
import io
import os
import struct
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from polydetr.core.access import IN_MEMORY, FileAccess
from polydetr.core.files import read_whole
from polydetr.core.reading import SAY_IMAGES
from polydetr.errors import DataFileError, RowError
from polydetr.values.files import FORMATS
from polydetr.values.framing import FULL_SIZE
from polydetr.values.pixels import ALL_LEVELS, Levels, Room, floats_to_uint8, over_white

MAX_PIXELS = 64_000_000
"""Unless the user says otherwise."""
if "PILLOW_BLOCK_SIZE" not in os.environ:
    # What a thread frees in blocks below 32 MB, glibc keeps for this thread, and Pillow's blocks have 16 MB: a thread
    # that once opened a large image would keep hundreds of megabytes. Of larger blocks nothing is kept.
    Image.core.set_block_size(1 << 26)
DECODED_AT_ONCE = Room(64_000_000)
"""An image takes some 8 bytes per pixel while it is decoded and laid over white: half a gigabyte at most together."""
_FILE_BYTES = 16
"""Bytes of a file per pixel that may be decoded: more than any format needs, several pages included."""
_SMALL_FILE = 1 << 28
_WIDTH, _HEIGHT, _ORIENTATION = 0x0100, 0x0101, 0x0112  # of EXIF
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_THEIR_SIDE = (5, 6, 7, 8)
OUTSIDE = "polydetr outside levels"
_END = b"\xff\xd9"  # of a JPEG
_AGAIN = "Copy the image again, or leave the cell empty."
ARRAYS = "Expected (height, width), (height, width, 3) or (height, width, 4): uint8, uint16, or float from 0 to 1."


@dataclass(frozen=True)
class ImageReading:
    """How cells are read. ``access``: where paths begin, and what they may reach. ``max_pixels``: a larger image is
    refused before it is decoded. ``levels``: how images of 16 bits become such of 8. ``at_least``: the image need be no
    larger than this many pixels per side (a large JPEG is then decoded at 1/2, 1/4 or 1/8 of its size: 1.8 times as
    fast for photographs of 420 x 350 shown at 160 x 160, and much more for those of a camera).
    """

    access: FileAccess = IN_MEMORY
    max_pixels: int = MAX_PIXELS
    levels: Levels = ALL_LEVELS
    at_least: int | None = None


class Fault(Exception):
    """What is wrong with an image, and the remedy; :func:`open_image` adds which image it is, and in which column."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.what, self.hint = what, hint


def read_image_file(path: Path, reading: ImageReading) -> bytes:
    try:
        if path.is_dir():
            raise Fault("is a folder.", "Give the path of one image, or a list of paths.")
        size, most = path.stat().st_size, max(_SMALL_FILE, _FILE_BYTES * reading.max_pixels)
        if path.is_file() and size > most:
            raise Fault(
                f"has {size:,} bytes, more than an image of image.max_pixels = {reading.max_pixels:,} can have.",
                "Check that it is the image that was meant.",
            )
        return read_whole(path, most=most)
    except FileNotFoundError:
        begins = "the folder of the file that names them" if reading.access.folder else "the working directory"
        raise Fault(
            f"does not exist (looked at {path}).",
            f"Relative paths begin at {begins}; name another folder with {SAY_IMAGES}.",
        ) from None
    except DataFileError as error:
        raise Fault(error.message, "Give the path of an image.") from None
    except (OSError, ValueError) as error:
        raise Fault(f"cannot be read: {error}.", "Check the path and who may read the file.") from None


BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, Image.DecompressionBombError,
)  # fmt: skip
"""Whatever Pillow's decoders meet in a broken file."""


def decode(content: bytes, reading: ImageReading, room: ExitStack) -> Image.Image:
    """The image of a file's content, upright and in RGB; ``room`` holds what it takes. Raises :class:`Fault`."""
    if not content:
        raise Fault("is empty (0 bytes).", _AGAIN)
    try:
        with identified(content) as image:
            check_size(image, reading)
            size = image.size
            if reading.at_least and image.format in ("JPEG", "MPO"):  # decoded at a fraction of its size
                image.draft(None, (reading.at_least, reading.at_least))
            room.enter_context(room_for(image))
            image.load()
            if image.format in ("JPEG", "MPO") and _ends_early(image, content, reading):
                raise Fault("is broken: its data end before the image does.", _AGAIN)
            shown = as_seen(image, reading.levels)
            if image.size != size:
                shown.info[FULL_SIZE] = size[::-1] if _orientation(image) in _ON_THEIR_SIDE else size
            return shown
    except UnidentifiedImageError:
        raise Fault(
            "is not an image that can be read.",
            f"Expected one of {', '.join(_formats())}.",
        ) from None
    except BROKEN as error:
        reason = f": {error}" if isinstance(error, OSError) else ""  # others quote the content, which may be a secret
        raise Fault(f"is broken or cut off{reason}.", _AGAIN) from None


def room_for(image: Image.Image) -> AbstractContextManager[None]:
    """Holds what it takes to decode the image."""
    copies = 3 if image.format == "JPEG2000" else 1  # its decoder keeps each channel in four bytes
    return DECODED_AT_ONCE.take(image.width * image.height * copies)


def identified(content: bytes) -> ImageFile:
    """The image, its header read. ``Image.open`` without Pillow's own bound on pixels, which is the whole process's and
    knows nothing of ``max_pixels``.

    Raises:
        UnidentifiedImageError: no format that is read.
    """
    for name in _formats():
        factory, accept = Image.OPEN[name]
        with suppress(SyntaxError, IndexError, TypeError, struct.error):  # by these a plugin says that it is not its
            suits = accept(content[:16]) if accept else True
            if suits and not isinstance(suits, str):  # a text says what this build lacks
                return factory(io.BytesIO(content), "")
    raise UnidentifiedImageError


def _ends_early(image: ImageFile, content: bytes, reading: ImageReading) -> bool:
    """Whether a JPEG has an end mark but not all its data: the decoder fills the rest with mid-gray, without a warning.

    Only where the last pixel is of that gray the image is decoded once more, with other data in front of the mark:
    a whole image never looks at them, a broken one changes.
    """
    last = image.getpixel((image.width - 1, image.height - 1))
    values = last if isinstance(last, tuple) else (last,)
    if not all(value in (127, 128) for value in values):
        return False
    end = content.rfind(_END)
    probe = content[: end if end >= 0 else len(content)] + b"\x55" * 4096 + _END
    with identified(probe) as other:
        other.draft(None, (reading.at_least, reading.at_least)) if reading.at_least else None
        return other.tobytes() != image.tobytes()


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of ``FORMATS`` that this build of Pillow has."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def check_size(image: Image.Image, reading: ImageReading | None) -> None:
    """reading: None for an image that is decoded already."""
    width, height = image.size
    if not width or not height:
        raise Fault(f"has {width} x {height} pixels.", "Leave the cell empty where there is no image.")
    if reading is not None and width * height > reading.max_pixels:
        raise Fault(
            f"has {width:,} x {height:,} pixels, more than image.max_pixels = {reading.max_pixels:,}.",
            "Make it smaller first, or allow it: train --max-pixels N, predict --max-pixels N (max_pixels= of load).",
        )


def as_seen(image: Image.Image, levels: Levels) -> Image.Image:
    """Upright, over white, RGB; of an animation the first frame."""
    turn, outside = _UPRIGHT.get(_orientation(image)), 0.0
    if image.mode.startswith(("I", "F")):
        array = np.asarray(image)
        image = Image.fromarray(to_uint8(array, levels))
        outside = levels.outside(array) if array.dtype.kind != "f" else 0.0
    if image.mode.endswith(("A", "a")) or "transparency" in image.info:
        image = over_white(image)
    image = image.convert("RGB") if image.mode != "RGB" else image
    image = image.transpose(turn) if turn is not None else image
    if outside:
        image.info[OUTSIDE] = outside
    return image


def _orientation(image: Image.Image) -> Any:
    """The EXIF orientation, 1 to 8; None where there is none."""
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:  # broken metadata do not break the image
        return None


def to_uint8(array: np.ndarray, levels: Levels) -> np.ndarray:
    """8 bits per channel from 8, from 16 (in any type of 2 or 4 bytes, as readers give them), or from floats 0 … 1."""
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind not in "uif":
        raise Fault(f"is an array of {array.dtype}.", ARRAYS)
    low, high = array.min(), array.max()
    if array.dtype.kind == "f":
        if not (low >= 0 and high <= 1):  # also where one is not a number
            raise Fault(f"is an array of {array.dtype} from {low} to {high}.", ARRAYS)
        return floats_to_uint8(array)
    if low < 0 or high > 65535 or array.dtype.itemsize < 2 or (array.dtype.itemsize > 4):
        raise Fault(f"is an array of {array.dtype} from {low} to {high}.", ARRAYS)
    return levels.to_uint8(array)


def shown_size(image: Path | bytes) -> tuple[tuple[int, int], bool]:
    """(width, height) of an image, a file or its content, as :func:`open_image` shows it, from its header alone, and
    whether it lies on its side in the file.

    Raises:
        RowError: it is not an image.
    """
    name = f"of {len(image)} bytes" if isinstance(image, bytes) else f"{image.name!r:.120}"
    try:
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image, formats=_formats()) as opened:
            width, height = opened.size
            turned = _orientation(opened) in _ON_THEIR_SIDE
            if isinstance(opened, TiffImageFile):  # some versions of Pillow turn its size already
                width, height = opened.tag_v2[_WIDTH], opened.tag_v2[_HEIGHT]
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, KeyError, struct.error) as error:
        told = isinstance(error, OSError) and not isinstance(error, UnidentifiedImageError)  # others quote the file
        reason = str(error) if told else "no format that is known"
        raise RowError(f"the image {name} cannot be read: {reason}.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise RowError(f"the image {name} cannot be read: {error}.") from None
    return ((height, width) if turned else (width, height)), turned
