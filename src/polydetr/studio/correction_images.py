"""The images of corrected rows as files: each once, in a folder beside the file that names them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from polydetr.core.files import make_folder, saved
from polydetr.errors import InputError, SaveError
from polydetr.values.decoding import BROKEN, identified, shown_size

_SUFFIXES = {"jpeg": "jpg", "mpo": "jpg", "jpeg2000": "jp2"}


class ImageFolder:
    """``STEM.images`` beside the file ``out``; made with its first image. sizes: name → (width, height) as it is seen,
    of those written.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self.folder = out.with_name(f"{out.stem}.images")
        self.sizes: dict[str, tuple[int, int]] = {}

    def put(self, content: bytes) -> str:
        """Writes the image; its path from the file. Raises InputError: it is none. SaveError."""
        try:
            with identified(content) as image:
                kind = str(image.format).lower()
        except BROKEN:
            raise InputError(f"an image of {len(content):,} bytes is none that can be opened.") from None
        name = f"{self.folder.name}/{hashlib.sha256(content).hexdigest()[:32]}.{_SUFFIXES.get(kind, kind)}"
        if name not in self.sizes:
            size, _ = shown_size(content)
            try:
                make_folder(self.folder)
            except OSError as error:
                raise SaveError(f"{str(self.folder)!r} cannot be made: {error.strerror or error}.") from None
            with saved(self.path(name)) as file:
                file.write(content)
            self.sizes[name] = size
        return name

    def path(self, name: str) -> Path:
        """Where the image lies that ``put`` named."""
        return self._out.parent / name
