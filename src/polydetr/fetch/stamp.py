"""A folder of fetched files is trusted by its stamp: ``checked.json`` holds the SHA-256, the size and the time of every
file, so that a file which changed behind our back is hashed again and an untouched one is not.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

from polydetr.core.files import sha256_of, write_json

STAMP = "checked.json"


def stamp_folder(folder: Path, digests: Mapping[str, str], *, origin: str) -> None:
    """Records that the files of ``folder`` are what they should be: ``digests`` is file name → SHA-256, ``origin``
    their source.
    """
    files = {name: {"sha256": digest, **_size_and_time(folder / name)} for name, digest in digests.items()}
    write_json(folder / STAMP, {"origin": origin, "files": files})


def check_folder(folder: Path, names: tuple[str, ...], *, origin: str) -> str | None:
    """None where every named file of ``folder`` is the one that was stamped, else what is wrong, in words.

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
        if _size_and_time(path) == {key: known.get(key) for key in ("size", "time")}:
            continue
        if (digest := sha256_of(path)) != known.get("sha256"):
            return f"{path} was changed: expected sha256 {known.get('sha256')}, found {digest}"
        moved = True
    if moved:  # copied with other times, but the same bytes: do not hash it on every load
        with contextlib.suppress(OSError):  # a cache that cannot be written still serves
            stamp_folder(folder, {n: f["sha256"] for n, f in files.items() if (folder / n).is_file()}, origin=origin)
    return None


def _size_and_time(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"size": status.st_size, "time": status.st_mtime_ns}
