"""Where the cache lies, and how files are written: whole or not at all.

The cache folder is ``$POLYDETR_CACHE``, else the platform's cache folder with ``polydetr`` in it. A file gets its name
only when it is whole: it is written beside its place, then moved. ``write_*`` leave it to their caller to say what an
OSError means; ``save_*`` write what a user asked for, and raise SaveError.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from polydetr.errors import DataFileError, SaveError


def cache_dir() -> Path:
    """The folder for fetched and converted files; it need not exist yet."""
    if chosen := os.environ.get("POLYDETR_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "polydetr"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal, read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_whole(path: Path, *, most: int) -> bytes:
    """The content of an ordinary file of at most so many bytes: a pipe would block, a device never ends.

    Raises:
        DataFileError: it is no ordinary file, or larger. OSError: it cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise DataFileError("is not an ordinary file.")
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise DataFileError(f"has more than {most:,} bytes, which is too large.")
    return content


@contextmanager
def written_atomically(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes its name only when the block ends well; otherwise nothing is left and nothing is
    replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.chmod(name, 0o644 & ~_umask())  # mkstemp gives 0600: a shared cache must be readable by its readers
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with written_atomically(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object atomically, with stable key order left as given."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def save_bytes(path: str | Path, data: bytes) -> Path:
    """Writes through a temporary file in the same folder, so that a reader or a full disk never meets half a file.

    Raises:
        SaveError: the folder cannot be made or written to; what stood at ``path`` is untouched.
    """
    target = Path(path)
    try:
        with written_atomically(target) as file:
            file.write(data)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SaveError(
            f"Cannot write {str(target)!r}: {reason}. Nothing was changed; free space or name another place."
        ) from error
    return target


def save_text(path: str | Path, text: str) -> Path:
    """UTF-8, through :func:`save_bytes`."""
    return save_bytes(path, text.encode())


def save_json(path: str | Path, obj: Any) -> Path:
    """``obj`` as indented JSON, Chinese left readable.

    Reports (anything with ``to_dict``), NumPy values and paths become plain values; NaN and infinities become null,
    which is all that JSON has for them.
    """
    return save_text(path, json.dumps(plain(obj), ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def plain(obj: Any) -> Any:
    """``obj`` in JSON's own types; what has none is refused by ``json`` itself."""
    if hasattr(obj, "to_dict"):
        return plain(obj.to_dict())
    if hasattr(obj, "tolist"):  # NumPy arrays and scalars
        return plain(obj.tolist())
    if isinstance(obj, Mapping):
        return {str(key): plain(value) for key, value in obj.items()}
    if isinstance(obj, (list, tuple, set, frozenset)):
        return [plain(value) for value in (sorted(obj, key=str) if isinstance(obj, (set, frozenset)) else obj)]
    if isinstance(obj, float):
        return obj if math.isfinite(obj) else None
    return str(obj) if isinstance(obj, Path) else obj
