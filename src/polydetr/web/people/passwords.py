"""Passwords: argon2id with the parameters of RFC 9106 for ordinary memory, renewed when the library raises them.

Source: RFC 9106, section 4, "second recommended option"; OWASP, "Password Storage Cheat Sheet"; NIST SP 800-63B,
5.1.1.2 (length counts, composition does not; Unicode is normalized).
"""

from __future__ import annotations

import functools
import secrets
import threading
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from polydetr.errors import InputError

LEAST, MOST = 12, 1024
"""Characters of a password."""
_AT_ONCE = threading.BoundedSemaphore(2)
"""Each takes 64 MiB: many sign-ins at once wait, and take no more memory."""


def check_password(password: str) -> None:
    """Raises InputError, which never repeats it."""
    if len(password) < LEAST:
        raise InputError(
            f"the password has {len(password)} characters, and needs at least {LEAST}.",
            hint="Some words in a row are easy to keep in mind.",
        )
    if len(password) > MOST:
        raise InputError(f"the password has {len(password):,} characters.", hint=f"At most {MOST:,}.")
    try:
        _bytes(password)
    except UnicodeEncodeError:
        raise InputError("the password holds half a character, which no keyboard types.") from None


def hashed(password: str) -> str:
    """With its parameters and its salt. Raises InputError, see ``check_password``."""
    check_password(password)
    with _AT_ONCE:
        return _hasher().hash(_bytes(password))


def is_right(kept: str | None, password: str) -> bool:
    """Whether this is the password of the hash. ``kept=None``, for a name that nobody has, takes the same time."""
    try:
        given = _bytes(password) if len(password) <= MOST else b""  # none that long was ever accepted
    except UnicodeEncodeError:
        given = b""
    with _AT_ONCE:
        try:
            _hasher().verify(kept or _nobodys(), given)
        except (Argon2Error, InvalidHashError):
            return False
    return kept is not None


def is_outdated(kept: str) -> bool:
    """Whether it was hashed with other parameters than today's."""
    return _hasher().check_needs_rehash(kept)


def _bytes(password: str) -> bytes:
    return unicodedata.normalize("NFKC", password).encode()


@functools.cache
def _hasher() -> PasswordHasher:
    return PasswordHasher()


@functools.cache
def _nobodys() -> str:
    return _hasher().hash(secrets.token_bytes(16))
