"""Keys of the API: a file of their hashes, read anew whenever it changes.

A key is 256 random bits, so its plain SHA-256 is enough: what slow hashes (bcrypt, Argon2) defend, a secret that can be
guessed, is not there, and a slow hash for every request would be a way to keep the service busy. Sources: NIST SP
800-63B, 5.1.1.2 (salted, slow hashes are for *memorized* secrets); OWASP, "Password Storage Cheat Sheet".
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from polydetr.core.files import json_text, read_whole, written_atomically
from polydetr.core.lock import held
from polydetr.errors import DataFileError, InputError, SaveError, did_you_mean, quoted

PREFIX = "pdk_"
"""By which scanners for leaked secrets can know a key."""
_LONGEST = 200
_MOST_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Key:
    """One key, by the name of whoever has it. admin: it may also exchange models."""

    name: str
    sha256: str
    admin: bool = False
    created: str = ""


class KeyFile:
    """The keys of a service. Every process may read it at any time: it is replaced as a whole, under a lock."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._stamp: tuple[int, ...] | None = None
        self._keys: Sequence[Key] = ()
        self._reading = threading.Lock()

    def keys(self) -> Sequence[Key]:
        """All keys, as the file has them now; none where there is no file.

        Raises:
            DataFileError: it cannot be read as a file of keys.
        """
        with self._reading:
            stamp = self._stamp_now()
            if stamp != self._stamp:
                self._keys = () if stamp is None else _read(self.path)
                self._stamp = stamp
            return self._keys

    def find(self, key: str) -> Key | None:
        """The entry of ``key``; None where it is none of ours. All hashes are compared, each in constant time."""
        digest = _hash(key[:_LONGEST])
        found = None
        for entry in self.keys():
            if hmac.compare_digest(entry.sha256, digest):
                found = entry
        return found

    def add(self, name: str, *, admin: bool = False) -> str:
        """A new key, which is told this once and never again.

        Raises:
            InputError: the name is no name, or is taken. SaveError: the file cannot be written.
        """
        if not _NAME.fullmatch(name):
            raise InputError(
                f"{quoted(name)} is no name of a key.", hint="Up to 64 letters, digits, dots, hyphens, underscores."
            )
        key = PREFIX + secrets.token_urlsafe(32)
        with self._locked():
            keys = list(_read(self.path)) if self.path.exists() else []
            if any(entry.name == name for entry in keys):
                raise InputError(f"there is a key called {quoted(name)} already.", hint="Revoke it, or choose another.")
            self._write([*keys, Key(name, _hash(key), admin, f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")])
        return key

    def revoke(self, name: str) -> None:
        """Removes a key; a running service refuses it from its next request on.

        Raises:
            InputError: there is none of this name. SaveError: the file cannot be written.
        """
        with self._locked():
            keys = list(_read(self.path)) if self.path.exists() else []
            left = [entry for entry in keys if entry.name != name]
            if len(left) == len(keys):
                raise InputError(
                    f"there is no key called {quoted(name)} in {str(self.path)!r}.",
                    hint=did_you_mean(name, [entry.name for entry in keys]),
                )
            self._write(left)

    def _locked(self) -> Any:
        return held(self.path.with_name(f".{self.path.name}.lock"), what=f"{str(self.path)!r}", wait=True)

    def _write(self, keys: Sequence[Key]) -> None:
        document = {"format": 1, "keys": [asdict(key) for key in keys]}
        try:
            with written_atomically(self.path) as file:
                os.chmod(file.name, 0o600)  # before anything stands in it
                file.write((json_text(document, indent=1) + "\n").encode())
        except OSError as error:
            raise SaveError(
                f"cannot write {str(self.path)!r}: {error.strerror or error}.", hint="Nothing was changed."
            ) from error

    def _stamp_now(self) -> tuple[int, ...] | None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataFileError(f"the keys cannot be read: {error.strerror}.") from None
        return status.st_ino, status.st_size, status.st_mtime_ns


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _read(path: Path) -> Sequence[Key]:
    """Raises DataFileError."""
    try:
        document = json.loads(read_whole(path, most=_MOST_BYTES))
        return [_entry(entry) for entry in document["keys"]]
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise DataFileError(
            f"{str(path)!r} is no file of keys ({reason}).", hint="Name the file that polydetr keys add wrote."
        ) from None


def _entry(entry: dict[str, Any]) -> Key:
    key = Key(**entry)
    if not (isinstance(key.name, str) and isinstance(key.admin, bool) and re.fullmatch("[0-9a-f]{64}", key.sha256)):
        raise ValueError("an entry without name or hash")
    return key
