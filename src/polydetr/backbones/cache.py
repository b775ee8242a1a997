"""Where fetched files lie, and how they are written and checked.

The cache folder is ``$POLYDETR_CACHE``, else the platform's cache folder with ``polydetr`` in it. A file gets its name
only when it is whole (written beside it, then moved), and a folder of files is trusted by its stamp: ``checked.json``
holds the SHA-256, the size and the time of every file, so that a file which changed behind our back is hashed again and
an untouched one is not.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

STAMP = "checked.json"


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
    """The SHA-256 of a file, in hexadecimal, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def stamp_folder(folder: Path, digests: Mapping[str, str], *, origin: str) -> None:
    """Records that the files of ``folder`` are what they should be: ``digests`` is file name → SHA-256, ``origin``
    their source.
    """
    files = {name: {"sha256": digest, **_look(folder / name)} for name, digest in digests.items()}
    write_json(folder / STAMP, {"origin": origin, "files": files})


def check_folder(folder: Path, names: tuple[str, ...], *, origin: str) -> str | None:
    """None where every named file of ``folder`` is the one that was stamped, else a sentence that says what is wrong.

    A file whose size and time are the stamped ones is not read again; any other is hashed. ``origin`` tells apart
    folders made from another source or by another version of the converter.
    """
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        files = stamp["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"{folder} holds no finished fetch"
    if stamp.get("origin") != origin:
        return f"{folder} was made from {stamp.get('origin')!r}, expected {origin!r}"
    moved = False
    for name in names:
        path, known = folder / name, files.get(name)
        if known is None or not path.is_file():
            return f"{path} is missing"
        if _look(path) == {key: known.get(key) for key in ("size", "time")}:
            continue
        if (found := sha256_of(path)) != known.get("sha256"):
            return f"{path} was changed: expected sha256 {known.get('sha256')}, found {found}"
        moved = True
    if moved:  # copied with other times, but the same bytes: do not hash it on every load
        with contextlib.suppress(OSError):  # a cache that cannot be written still serves
            stamp_folder(folder, {n: f["sha256"] for n, f in files.items() if (folder / n).is_file()}, origin=origin)
    return None


def _look(path: Path) -> dict[str, int]:
    found = path.stat()
    return {"size": found.st_size, "time": found.st_mtime_ns}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
