"""Where the cache lies, and how files are written: whole or not at all.

The cache folder is ``$POLYDETR_CACHE``, else the platform's cache folder with ``polydetr`` in it. A file gets its name
only when it is whole: it is written beside its place under a name of its own, then moved. What is no file (a pipe, a
device, standard output under another name) stays what it is and is written to. ``write_*`` leave it to their caller to
say what an OSError means; ``save_*`` write what a user asked for, and raise SaveError.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO, Any

from polydetr.errors import DataFileError, SaveError

PIPE_SECONDS = 10.0
"""How long a named pipe is waited on until some program reads from it."""
_OPEN_FILE = re.compile(r"/proc/(\d+)/(?:task/\d+/)?fd/(\d+)")
"""What /dev/stdout and /dev/fd/3 are links to: a file that a process has open."""


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
    replaced. Its rights are the user's own (umask).

    A link stays one: the file it points to is replaced. What is no ordinary file is opened and written to.

    Raises:
        OSError: it cannot be written; a pipe that nobody reads from within ``PIPE_SECONDS`` among them.
    """
    place = _behind_links(path)
    if _OPEN_FILE.fullmatch(str(place)) or is_special(place):
        with _opened(place) as file:
            yield file
        return
    make_folder(place.parent)
    part = place.with_name(f".{place.name[:40]}.{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as file:  # never through a link that somebody put there
            yield file
        os.replace(part, place)
    except BaseException:
        with contextlib.suppress(OSError):  # what went wrong before matters more
            part.unlink()
        raise


def is_special(path: Path) -> bool:
    """Whether there is something at ``path`` that is neither a file nor a folder: a pipe, a device, a socket."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def is_stream(path: Path) -> bool:
    """Whether ``path`` is no file of its own, but a pipe, a device, or what a process has open (/dev/stdout)."""
    try:
        return is_special(path) or _OPEN_FILE.fullmatch(str(_behind_links(path))) is not None
    except OSError:
        return False


def make_folder(folder: Path) -> None:
    """With its parents, where it is not there yet. Raises OSError; NotADirectoryError where a file is in the way."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None


def cannot_write(folder: Path, error: OSError) -> SaveError:
    return SaveError(f"cannot write to {str(folder)!r}: {error.strerror or error}.", hint="Name another place.")


def take_usual_rights(path: Path) -> None:
    """Gives a file the rights that the user gives new files (umask): libraries make some for their owner alone."""
    usual = path.with_name(f".{secrets.token_hex(8)}.part")
    usual.touch(exist_ok=False)
    path.chmod(stat.S_IMODE(usual.stat().st_mode))
    usual.unlink()


def _behind_links(path: Path) -> Path:
    """The place where links lead to; links to what a process has open (``_OPEN_FILE``) are not followed."""
    for _ in range(40):  # as many as Linux follows
        path = Path(os.path.realpath(path.parent)) / path.name
        if _OPEN_FILE.fullmatch(str(path)) or not path.is_symlink():
            return path
        path = path.parent / path.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def _opened(path: Path) -> IO[bytes]:
    """For writing, as it is. Raises OSError."""
    if os.name != "posix":
        return path.open("ab")
    open_file = _OPEN_FILE.fullmatch(str(path))
    if open_file and int(open_file[1]) == os.getpid():
        return os.fdopen(os.dup(int(open_file[2])), "wb")
    flags, waited = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK, time.monotonic()
    while True:
        try:
            handle = os.open(path, flags)
        except OSError as error:
            if error.errno != errno.ENXIO or not path.is_fifo():
                raise
            if time.monotonic() - waited > PIPE_SECONDS:
                raise OSError(errno.ENXIO, "no program reads from this pipe", str(path)) from None
            time.sleep(0.05)
            continue
        os.set_blocking(handle, True)
        return os.fdopen(handle, "wb")


def file_names(names: Iterable[str]) -> dict[str, str]:
    """Names of columns → as parts of names of files: without folders, of bounded length, no two alike."""
    found: dict[str, str] = {}
    for name in names:
        plain = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:60]
        taken = set(found.values())
        found[name] = next(n for i in count(1) if (n := plain if i == 1 else f"{plain}-{i}") not in taken)
    return found


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with written_atomically(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object atomically, with stable key order left as given."""
    write_text(path, json_text(value, indent=1) + "\n")


_UNSEEN = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What JSON lets stand in a string, and a terminal or an encoding does not."""


def json_text(value: Any, *, indent: int | None = None) -> str:
    """``value`` as JSON, for every file and stream that is not only ours; Chinese left readable.

    Reports (anything with ``to_dict``), NumPy values and paths become plain values; NaN and infinities become null,
    which is all that JSON has for them. Control characters and halves of characters are written as escapes.
    """
    text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=indent)
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


@contextmanager
def saved(path: str | Path) -> Iterator[IO[bytes]]:
    """``written_atomically``, for what a user asked for.

    Raises:
        SaveError: the folder cannot be made or written to; what stood at ``path`` is untouched.
    """
    try:
        with written_atomically(Path(path)) as file:
            yield file
    except OSError as error:
        reason = error.strerror or str(error)
        raise SaveError(
            f"cannot write {str(path)!r}: {reason}.", hint="Nothing was changed; free space or name another place."
        ) from error


def save_bytes(path: str | Path, data: bytes) -> Path:
    """Writes whole or not at all, see :func:`saved`. Raises SaveError."""
    with saved(path) as file:
        file.write(data)
    return Path(path)


def save_text(path: str | Path, text: str) -> Path:
    """UTF-8, through :func:`save_bytes`."""
    return save_bytes(path, text.encode())


def save_json(path: str | Path, obj: Any) -> Path:
    """``obj`` as indented JSON, see ``json_text``."""
    return save_text(path, json_text(obj, indent=2) + "\n")


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
