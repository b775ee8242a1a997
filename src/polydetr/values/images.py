"""Images from whatever a cell holds: a path, bytes, an array, a PIL image, or a list of those.

Nothing is guessed: an image that cannot be read whole is an error that names what is wrong with it, never a gray
square. Every image comes out as it would be seen: upright, over white where it is transparent, in 8-bit RGB. Of an
animation, and of a file with several pages, the first image is decoded, and no other.

A file of a few kilobytes may hold an image of gigabytes: its pixels are bounded before it is decoded, and so are those
of all images that are decoded at once (``Room``), in however many threads.
"""

from __future__ import annotations

import functools
import io
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from polydetr.core.access import IN_MEMORY, FileAccess
from polydetr.core.files import read_whole
from polydetr.core.reading import SAY_IMAGES
from polydetr.errors import DataFileError, InputError, Location, RowError
from polydetr.values.cells import is_empty
from polydetr.values.files import FORMATS, find_file
from polydetr.values.pixels import ALL_LEVELS, Levels, Room, floats_to_uint8, over_white

Fit = Literal["stretch", "crop", "pad"]

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
_FULL_SIZE = "polydetr full size"
_OUTSIDE = "polydetr outside levels"
_END = b"\xff\xd9"  # of a JPEG
_AGAIN = "Copy the image again, or leave the cell empty."
_ARRAYS = "Expected (height, width), (height, width, 3) or (height, width, 4): uint8, uint16, or float from 0 to 1."


@dataclass(frozen=True)
class ImageReading:
    """How cells are read. ``access``: where paths begin, and what they may reach. ``max_pixels``: a larger image is
    refused before it is decoded. ``levels``: how images of 16 bits become such of 8. ``at_least``: the image need be no
    larger than this many pixels per side (a large JPEG
    is then decoded at 1/2, 1/4 or 1/8 of its size: 1.8 times as fast for photographs of 420 x 350 shown at 160 x 160,
    and much more for those of a camera).
    """

    access: FileAccess = IN_MEMORY
    max_pixels: int = MAX_PIXELS
    levels: Levels = ALL_LEVELS
    at_least: int | None = None


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
    return image.info.get(_OUTSIDE, 0.0)


def _open(value: object, column: str | None, reading: ImageReading, room: ExitStack) -> Image.Image:
    name = "the image"
    try:
        if isinstance(value, Mapping) and {"bytes", "path"} & value.keys():  # how Hugging Face's files hold an image
            value = value.get("bytes") or value.get("path")
        if isinstance(value, np.ndarray):
            return _from_array(value, reading)
        if isinstance(value, Image.Image):
            undecoded = isinstance(value, ImageFile) and bool(value.tile)
            _check_size(value, reading if undecoded else None)
            if undecoded:
                room.enter_context(_room_for(value))
            return _as_seen(value, reading.levels)
        if isinstance(value, bytes | bytearray | memoryview):
            name = f"the image of {len(value)} bytes"
            return _decode(bytes(value), reading, room)
        if isinstance(value, str | Path) and str(value).strip():
            name = f"{str(value)!r:.300}"
            return _decode(_read_file(find_file(value, reading.access, column=column), reading), reading, room)
        shown = "missing" if is_empty(value) else type(value).__name__
        raise _Fault(
            f"is {shown}: {value!r:.80}", "Expected a path, bytes, a NumPy array, a PIL image or a list of them."
        )
    except _Fault as fault:
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


def shown_size(path: Path) -> tuple[tuple[int, int], bool]:
    """(width, height) of an image's file as :func:`open_image` shows it, from its header alone, and whether it lies on
    its side in the file.

    Raises:
        RowError: it is not an image.
    """
    try:
        with Image.open(path, formats=_formats()) as image:
            width, height = image.size
            turned = _orientation(image) in _ON_THEIR_SIDE
            if isinstance(image, TiffImageFile):  # some versions of Pillow turn its size already
                width, height = image.tag_v2[_WIDTH], image.tag_v2[_HEIGHT]
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, KeyError, struct.error) as error:
        told = isinstance(error, OSError) and not isinstance(error, UnidentifiedImageError)  # others quote the file
        reason = str(error) if told else "no format that is known"
        raise RowError(f"the image {path.name!r:.120} cannot be read: {reason}.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise RowError(f"the image {path.name!r:.120} cannot be read: {error}.") from None
    return ((height, width) if turned else (width, height)), turned


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


def fit_image(image: Image.Image, size: int, *, fit: Fit, fill: tuple[int, int, int] = (124, 116, 104)) -> np.ndarray:
    """An image in mode RGB as uint8 (size, size, 3), smoothed on the way down (Pillow's bilinear filter).

    "stretch" changes the proportions; "crop" keeps the middle square; "pad" keeps all and lays it on the middle of a
    square of the color ``fill`` (ImageNet's mean, which a backbone sees as zero). Padding is not masked.
    """
    width, height = image.size
    bilinear = Image.Resampling.BILINEAR
    if fit == "stretch" or width == height:
        return np.asarray(image.resize((size, size), bilinear))
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return np.asarray(image.resize((size, size), bilinear, box=(left, top, left + side, top + side)))
    scale = size / max(width, height)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    canvas = Image.new("RGB", (size, size), fill)
    canvas.paste(image.resize(inner, bilinear), ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return np.asarray(canvas)


class Frame(NamedTuple):
    """Where :func:`fit_image` lays an image: share = scale · pixel + shift takes pixels of the image (as it was before
    it was decoded at a fraction of its size, see ``ImageReading.at_least``) to shares of what the model sees. All zero
    stands for no image. As an array: float32 (6,), in this order.
    """

    scale_x: float
    scale_y: float
    shift_x: float
    shift_y: float
    width: float
    height: float

    def to_shares(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """(..., 4) in pixels → as shares."""
        return boxes_xyxy * np.tile(self._array[:2], 2) + np.tile(self._array[2:4], 2)

    def to_pixels(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """(..., 4) as shares → in pixels, inside the image."""
        pixels = (boxes_xyxy - np.tile(self._array[2:4], 2)) / np.tile(self._array[:2], 2)
        return pixels.clip(0, np.tile(self._array[4:], 2))

    @property
    def _array(self) -> np.ndarray:
        return np.array(self, dtype=np.float32)


def frame_of(image: Image.Image, *, fit: Fit) -> Frame:
    """Where :func:`fit_image` lays an image from :func:`open_image`, in pixels of its file, upright.

    Exact to a pixel of the result, and to the precision of float32.
    """
    sides = np.array(image.info.get(_FULL_SIZE, image.size))
    share = {"stretch": sides / sides, "crop": sides / sides.min(), "pad": sides / sides.max()}[fit]
    numbers = np.concatenate([share / sides, (1 - share) / 2, sides])
    return Frame(*numbers.astype(np.float32).tolist())


class _Fault(Exception):
    """What is wrong with an image, and the remedy; :func:`open_image` adds which image it is, and in which column."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.what, self.hint = what, hint


def deep_values(value: object, reading: ImageReading) -> np.ndarray | None:
    """The values of some 10,000 pixels of an image of 16 bits; None for any other, or one that cannot be read. They are
    uint8 where Pillow gives the upper 8 bits alone: in color.
    """
    try:
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, str | Path):
            value = _read_file(find_file(value, reading.access), reading)
        if isinstance(value, bytes | bytearray | memoryview):
            value = _identified(bytes(value))
        if isinstance(value, Image.Image):
            if not value.mode.startswith("I") and not _is_deep_color(value):
                return None
            _check_size(value, reading)
            with _room_for(value):
                return _some(np.asarray(value))
    except (_Fault, RowError, *_BROKEN):
        return None  # told when the row is encoded
    deep = isinstance(value, np.ndarray) and value.dtype.kind in "ui" and value.dtype.itemsize > 1 and value.size
    return _some(value) if deep else None  # type: ignore[arg-type]


def _some(array: np.ndarray) -> np.ndarray:
    return array.ravel()[:: max(1, array.size // 10_000)]


def _is_deep_color(image: Image.Image) -> bool:
    return isinstance(image, ImageFile) and any(";16" in str(tile[3]) for tile in image.tile)


def _read_file(path: Path, reading: ImageReading) -> bytes:
    try:
        if path.is_dir():
            raise _Fault("is a folder.", "Give the path of one image, or a list of paths.")
        size, most = path.stat().st_size, max(_SMALL_FILE, _FILE_BYTES * reading.max_pixels)
        if path.is_file() and size > most:
            raise _Fault(
                f"has {size:,} bytes, more than an image of image.max_pixels = {reading.max_pixels:,} can have.",
                "Check that it is the image that was meant.",
            )
        return read_whole(path, most=most)
    except FileNotFoundError:
        begins = "the folder of the file that names them" if reading.access.folder else "the working directory"
        raise _Fault(
            f"does not exist (looked at {path}).",
            f"Relative paths begin at {begins}; name another folder with {SAY_IMAGES}.",
        ) from None
    except DataFileError as error:
        raise _Fault(error.message, "Give the path of an image.") from None
    except (OSError, ValueError) as error:
        raise _Fault(f"cannot be read: {error}.", "Check the path and who may read the file.") from None


_BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, Image.DecompressionBombError,
)  # fmt: skip
"""Whatever Pillow's decoders meet in a broken file."""


def _decode(content: bytes, reading: ImageReading, room: ExitStack) -> Image.Image:
    """The image of a file's content, upright and in RGB; ``room`` holds what it takes. Raises :class:`_Fault`."""
    if not content:
        raise _Fault("is empty (0 bytes).", _AGAIN)
    try:
        with _identified(content) as image:
            _check_size(image, reading)
            size = image.size
            if reading.at_least and image.format in ("JPEG", "MPO"):  # decoded at a fraction of its size
                image.draft(None, (reading.at_least, reading.at_least))
            room.enter_context(_room_for(image))
            image.load()
            if image.format in ("JPEG", "MPO") and _ends_early(image, content, reading):
                raise _Fault("is broken: its data end before the image does.", _AGAIN)
            shown = _as_seen(image, reading.levels)
            if image.size != size:
                shown.info[_FULL_SIZE] = size[::-1] if _orientation(image) in _ON_THEIR_SIDE else size
            return shown
    except UnidentifiedImageError:
        raise _Fault(
            "is not an image that can be read.",
            f"Expected one of {', '.join(_formats())}.",
        ) from None
    except _BROKEN as error:
        reason = f": {error}" if isinstance(error, OSError) else ""  # others quote the content, which may be a secret
        raise _Fault(f"is broken or cut off{reason}.", _AGAIN) from None


def _room_for(image: Image.Image) -> AbstractContextManager[None]:
    """Holds what it takes to decode the image."""
    copies = 3 if image.format == "JPEG2000" else 1  # its decoder keeps each channel in four bytes
    return DECODED_AT_ONCE.take(image.width * image.height * copies)


def _identified(content: bytes) -> ImageFile:
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
    with _identified(probe) as other:
        other.draft(None, (reading.at_least, reading.at_least)) if reading.at_least else None
        return other.tobytes() != image.tobytes()


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of ``FORMATS`` that this build of Pillow has."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _check_size(image: Image.Image, reading: ImageReading | None) -> None:
    """reading: None for an image that is decoded already."""
    width, height = image.size
    if not width or not height:
        raise _Fault(f"has {width} x {height} pixels.", "Leave the cell empty where there is no image.")
    if reading is not None and width * height > reading.max_pixels:
        raise _Fault(
            f"has {width:,} x {height:,} pixels, more than image.max_pixels = {reading.max_pixels:,}.",
            "Make it smaller first, or allow it: train --max-pixels N, predict --max-pixels N (max_pixels= of load).",
        )


def _as_seen(image: Image.Image, levels: Levels) -> Image.Image:
    """Upright, over white, RGB; of an animation the first frame."""
    turn, outside = _UPRIGHT.get(_orientation(image)), 0.0
    if image.mode.startswith(("I", "F")):
        array = np.asarray(image)
        image = Image.fromarray(_to_uint8(array, levels))
        outside = levels.outside(array) if array.dtype.kind != "f" else 0.0
    if image.mode.endswith(("A", "a")) or "transparency" in image.info:
        image = over_white(image)
    image = image.convert("RGB") if image.mode != "RGB" else image
    image = image.transpose(turn) if turn is not None else image
    if outside:
        image.info[_OUTSIDE] = outside
    return image


def _orientation(image: Image.Image) -> Any:
    """The EXIF orientation, 1 to 8; None where there is none."""
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:  # broken metadata do not break the image
        return None


def _from_array(array: np.ndarray, reading: ImageReading) -> Image.Image:
    """The image of an array (H, W), (H, W, 3) or (H, W, 4). Raises :class:`_Fault`."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        several = array.ndim == 4
        hint = "The channels come last: use array.transpose(1, 2, 0)." if first else _ARRAYS
        raise _Fault(f"is an array of shape {array.shape}.", "Give several images as list(array)." if several else hint)
    shown = _as_seen(Image.fromarray(_to_uint8(array, reading.levels)), reading.levels)
    if array.dtype.kind in "ui" and (outside := reading.levels.outside(array)):
        shown.info[_OUTSIDE] = outside
    return shown


def _to_uint8(array: np.ndarray, levels: Levels) -> np.ndarray:
    """8 bits per channel from 8, from 16 (in any type of 2 or 4 bytes, as readers give them), or from floats 0 … 1."""
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind not in "uif":
        raise _Fault(f"is an array of {array.dtype}.", _ARRAYS)
    low, high = array.min(), array.max()
    if array.dtype.kind == "f":
        if not (low >= 0 and high <= 1):  # also where one is not a number
            raise _Fault(f"is an array of {array.dtype} from {low} to {high}.", _ARRAYS)
        return floats_to_uint8(array)
    if low < 0 or high > 65535 or array.dtype.itemsize < 2 or (array.dtype.itemsize > 4):
        raise _Fault(f"is an array of {array.dtype} from {low} to {high}.", _ARRAYS)
    return levels.to_uint8(array)


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
