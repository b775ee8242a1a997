"""Names of files in cells: which are images, and which file each one means."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from polydetr.core.access import FileAccess
from polydetr.core.reading import SAY_IMAGES
from polydetr.errors import Location, RowError

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""What is opened. Pillow knows more, among them EPS, which starts another program to draw it."""

_ADDRESS = re.compile(r"^(data(?=:)|[a-z][a-z0-9+.-]+(?=://))", re.IGNORECASE)  # http://..., data:image/png;base64,...
_USUAL = (".jpg", ".png", ".jpeg")
_LONGEST = 5  # letters of a suffix: text that merely has a full stop in it needs no list of formats


@functools.cache
def image_suffixes() -> tuple[str, ...]:
    """Those of every format that is opened, in lower case, the usual ones first."""
    from PIL import Image

    known = [suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS]
    return tuple(dict.fromkeys((*_USUAL, *sorted(known))))


def is_image_name(name: str | Path) -> bool:
    """True where the suffix says that the file is an image."""
    _, dot, suffix = str(name).rstrip().rpartition(".")
    return bool(dot) and len(suffix) <= _LONGEST and f".{suffix.lower()}" in image_suffixes()


def holds_image(value: object) -> bool:
    """True for a mapping that holds an image as Hugging Face's files do: its content, its path, or both. A sound, which
    they hold likewise, has another suffix.
    """
    if not isinstance(value, Mapping) or not {"bytes", "path"} <= value.keys():
        return False
    path = value["path"]
    return not path or not Path(path).suffix or is_image_name(path)


def spellings(name: str) -> Iterator[str]:
    """The names that may be meant: as it is; without blanks around it; with the slashes of other systems; and, where it
    has no image's suffix (an id), with each of them.
    """
    plain = _plain(name)
    yield from dict.fromkeys((name, name.strip(), plain))
    if plain and not is_image_name(plain):
        yield from (plain + end for suffix in image_suffixes() for end in (suffix, suffix.upper()))


def find_file(value: str | Path, access: FileAccess, *, column: str | None = None) -> Path:
    """The file that a cell names; where there is none, the first path at which it was looked for.

    Raises:
        RowError: an address, no path at all, or a path that leads out of what may be reached.
    """
    text, where = str(value), Location(column=column)
    if access.closed:
        raise RowError(
            f"{text!r:.80} is text, expected the content of an image: no file and no address is opened here.",
            location=where,
            hint="Send the bytes of the file: in JSON as base64.",
        )
    if address := _ADDRESS.match(text.strip()):
        raise RowError(
            f"{text!r:.300} is an address ({address[1]}:), and nothing is fetched while rows are read.",
            location=where,
            hint="Download the images first and give their paths, or give the bytes.",
        )
    try:
        for name in spellings(text) if isinstance(value, str) else (text,):
            for base in access.bases:
                path = access.path(base, name)
                if path is not None and path.exists() and not path.is_dir():
                    return path
        first = access.path(next(access.bases), _plain(text) if isinstance(value, str) else text)
    except (ValueError, RuntimeError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RowError(
            f"{text!r:.300} is not a path: {reason}.", location=where, hint="Give the path of an image."
        ) from None
    if first is not None:
        return first
    whose = "the only one whose images may be read" if access.root else "in which the file lies that names it"
    raise RowError(
        f"{text!r:.300} leads out of the folder {str(access.root or access.folder)!r}, {whose}.",
        location=where,
        hint=f"Move the image there, or name a folder that holds all images: {SAY_IMAGES}.",
    )


def _plain(name: str) -> str:
    return name.strip().replace("\\", "/")
