"""What a database does while it is used, as errors of ours: whoever calls the store knows three of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import DBAPIError, DisconnectionError, InternalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from polydetr.core.databases import Address, reason_of
from polydetr.errors import PolydetrError, SaveError, StoreError, StoreUnavailable

_FULL, _READ_ONLY, _GONE, _DAMAGED = "full", "read only", "gone", "damaged"
_SQLITE = {
    sqlite3.SQLITE_FULL: _FULL, sqlite3.SQLITE_READONLY: _READ_ONLY, sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_CORRUPT: _DAMAGED, sqlite3.SQLITE_NOTADB: _DAMAGED, sqlite3.SQLITE_BUSY: _GONE,
    sqlite3.SQLITE_LOCKED: _GONE, sqlite3.SQLITE_IOERR: _GONE, sqlite3.SQLITE_CANTOPEN: _GONE,
    sqlite3.SQLITE_PROTOCOL: _GONE,
}  # fmt: skip
_POSTGRESQL = {
    "53100": _FULL,
    "42501": _READ_ONLY,
    "25006": _READ_ONLY,
    "XX001": _DAMAGED,
    "XX002": _DAMAGED,
    "42P01": _GONE,
    "25P03": _GONE,
}
_POSTGRESQL_CLASSES = {"08": _GONE, "28": _GONE, "3D": _GONE, "53": _GONE, "55": _GONE, "57": _GONE, "58": _GONE}
"""By the first two characters of SQLSTATE: connection, sign-in, no such database, resources, locks, shutdown."""


@contextmanager
def told(address: Address, *, writes: bool) -> Iterator[None]:
    """What SQLAlchemy raises in the block becomes ours; a broken constraint stays what it is, for the caller to tell,
    and so does an attempt to write in a block that only reads.

    Raises:
        StoreUnavailable, StoreError, SaveError: see ``Database.write``.
    """
    try:
        yield
    except (DBAPIError, PoolTimeout, DisconnectionError) as error:
        ours = _told(error, address.shown, writes=writes)
        if ours is None:
            raise
        raise ours from error


def _told(error: Exception, where: str, *, writes: bool) -> PolydetrError | None:
    kind, reason = _kind(error), reason_of(error)
    if kind == _FULL:
        return SaveError(
            f"the store {where} has no room left ({reason}): nothing was changed.", hint="Free space and try again."
        )
    if kind == _READ_ONLY and writes:
        return SaveError(
            f"the store {where} may not be written ({reason}): nothing was changed.", hint="See who owns it."
        )
    if kind == _DAMAGED:
        return StoreError(
            f"the store {where} is damaged, or no database: {reason}.", hint="Restore a backup: polydetr store restore."
        )
    if kind == _GONE:
        return StoreUnavailable(
            f"the store {where} cannot be reached: {reason}.", hint="Nothing was changed; try again once it is back."
        )
    return None


def _kind(error: Exception) -> str | None:
    """None: what this module does not know, a fault of ours or a broken constraint."""
    if isinstance(error, (PoolTimeout, DisconnectionError)):
        return _GONE
    assert isinstance(error, DBAPIError)
    cause: Any = error.orig
    if isinstance(cause, sqlite3.Error):
        if "no such table" in str(cause):  # the file was replaced by another
            return _GONE
        code = getattr(cause, "sqlite_errorcode", None)
        return None if code is None else _SQLITE.get(code & 0xFF)
    state = getattr(cause, "sqlstate", None)
    if state is None:
        lost = error.connection_invalidated or type(cause).__name__ == "OperationalError"
        return _GONE if lost and not isinstance(error, InternalError) else None
    return _POSTGRESQL.get(state) or _POSTGRESQL_CLASSES.get(state[:2])
