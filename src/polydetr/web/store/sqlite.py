"""SQLite as a store: write-ahead log, writers that wait, foreign keys, and deleted rows overwritten."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event
from sqlalchemy.exc import DisconnectionError

from polydetr.core.databases import check_place
from polydetr.errors import SaveError, StoreError, StoreUnavailable, quoted
from polydetr.web.store import DEFAULT_ADDRESS

_HEADER = b"SQLite format 3\0"
_BUSY_SECONDS = 60
PRAGMAS = {
    "busy_timeout": _BUSY_SECONDS * 1000,
    "journal_mode": "wal",
    "synchronous": 2,  # what is confirmed outlives a power cut
    "foreign_keys": 1,
    "secure_delete": 1,  # what is erased is overwritten
}
"""Set on each connection, and read back: some are ignored in silence where a build or a file system lacks them."""


def check_file(file: Path) -> None:
    """Raises StoreError where something else is at this place, SaveError where no file can be made there."""
    check_place(file, kept="store", example=DEFAULT_ADDRESS, refused=StoreError)
    if file.exists() and not file.is_file():
        raise StoreError(f"the store {str(file)!r} is no ordinary file.", hint="Name another place.")
    try:
        with file.open("rb") as content:
            head = content.read(len(_HEADER))
    except FileNotFoundError:
        return
    except OSError as error:
        raise SaveError(f"cannot read the store {str(file)!r}: {error.strerror}.", hint="Name another place.") from None
    if head and head != _HEADER:
        raise StoreError(
            f"the file {str(file)!r} is no database: it begins with {quoted(head.decode('latin-1'), 40)}.",
            hint="Name another place.",
        )


def make_file(file: Path) -> None:
    """An empty one for its owner alone, where there is none: hashes of passwords will stand in it.

    Raises:
        SaveError: it cannot be made, or not be written.
    """
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise SaveError(
            f"cannot write the store {str(file)!r}: {error.strerror}.", hint="Name another place (--store)."
        ) from None


def engine_of(file: Path) -> Engine:
    """Connections to a file that is there: one that was removed is not made anew, empty, behind everybody's back."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{file.as_uri()}?mode=rw", uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            _prepare(connection, file)
        except BaseException:
            connection.close()
            raise
        return connection

    engine = create_engine(
        "sqlite+pysqlite://", creator=connect, poolclass=QueuePool, pool_size=8, max_overflow=24,
        pool_timeout=_BUSY_SECONDS, hide_parameters=True,
    )  # fmt: skip

    def remember(connection: Any, record: Any) -> None:
        record.info["file"] = _identity(file)

    def check(connection: Any, record: Any, proxy: Any) -> None:
        """A connection to a file that was removed or replaced would write where nobody reads."""
        if record.info.get("file") != _identity(file):
            raise DisconnectionError(f"{str(file)!r} was removed or replaced")

    event.listen(engine, "connect", remember)
    event.listen(engine, "checkout", check)
    return engine


def begin(connection: Connection, *, writes: bool, seconds: int) -> None:
    """A transaction that writes takes its lock at once: one that finds out later is refused, not made to wait."""
    connection.exec_driver_sql(f"PRAGMA query_only = {int(not writes)}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def compact(connection: Connection) -> None:
    """Raises StoreUnavailable where readers keep the log in use."""
    connection.exec_driver_sql("PRAGMA query_only = 0")
    connection.exec_driver_sql("VACUUM")
    busy, *_ = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()  # waits, as it waits for a lock
    if busy:
        raise StoreUnavailable("the log of the store is in use, and still holds what was removed.", hint="Try again.")


def _prepare(connection: sqlite3.Connection, file: Path) -> None:
    """Raises StoreError where a pragma does not take."""
    for name, value in PRAGMAS.items():
        connection.execute(f"PRAGMA {name} = {value}").fetchall()
        (found,) = connection.execute(f"PRAGMA {name}").fetchone()
        if found != value:
            raise StoreError(
                f"the store {str(file)!r} cannot be used safely: SQLite has {name}={found} there instead of {value}.",
                hint="Put it on a local disk, or keep it in PostgreSQL.",
            )


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
