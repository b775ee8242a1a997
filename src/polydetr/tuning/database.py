"""Where studies are kept: a SQLite file, or PostgreSQL, by its address; and a lock that a killed process lets go of."""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polydetr.core.databases import Address, check_place, need_driver, reason_of
from polydetr.core.installed import pip_install
from polydetr.core.lock import held
from polydetr.errors import ConfigError, SaveError, StudyError, shown

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

_CONNECT_SECONDS, _BUSY_SECONDS = 10, 60
_TRIES = 3
_TABLES = {"studies", "trials", "version_info", "alembic_version"}
"""Some of those of a study: whoever made it may have been killed before all were there."""


def open_database(address: Address) -> RDBStorage:
    """The database, with tables for studies where it has none yet.

    Raises:
        StudyError: it cannot be reached, or is damaged. SaveError: its file cannot be written. ConfigError: a package
            is missing.
    """
    storage = _optuna().storages.RDBStorage
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    arguments: dict[str, Any] = {"timeout": _BUSY_SECONDS}
    if address.file is None:
        need_driver()
        arguments = {"connect_timeout": _CONNECT_SECONDS}
    else:
        _check_file(address.file)
    try:
        with nullcontext() if address.file is None else _file_locked(address.file):
            return _opened(lambda: storage(address.url, engine_kwargs={"connect_args": arguments}))
    except (SQLAlchemyError, OptunaError, RuntimeError, AssertionError) as error:
        reason = reason_of(error)
        if address.file is None:
            raise StudyError(
                f"the database {address.shown} cannot be used: {reason}.",
                hint="Nothing was trained. See that it runs and lets you in; or leave out --storage.",
            ) from None
        if "readonly" in reason or "unable to open" in reason:
            raise SaveError(
                f"the study file {address.shown!r} cannot be written: {reason}.", hint="Name another place."
            ) from None
        raise _damaged(address.file, reason) from None


def _opened(make: Callable[[], RDBStorage]) -> RDBStorage:
    """Another process may be making the same tables: then they are there at the next try."""
    from sqlalchemy.exc import IntegrityError, ProgrammingError

    for _ in range(_TRIES - 1):
        with suppress(IntegrityError, ProgrammingError):
            return make()
        time.sleep(1.0)
    return make()


@contextmanager
def _file_locked(file: Path) -> Iterator[None]:
    with held(file.with_name(f"{file.name}.lock"), what=repr(str(file)), wait=True):
        yield


@contextmanager
def told_as_error(address: Address) -> Iterator[None]:
    """What a database does while a study goes on becomes one of our errors.

    Raises:
        StudyError: it no longer answers, or is damaged.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        raise StudyError(
            f"the study in {address.shown} can no longer be read or written: {reason_of(error)}.",
            hint="Finished trials are kept: go on with the same call and --resume (resume=True).",
        ) from error


@contextmanager
def locked(storage: RDBStorage, address: Address, name: str) -> Iterator[None]:
    """The block for one process at a time, whatever becomes of that process."""
    if address.file is not None:
        with _file_locked(address.file):
            yield
        return
    from sqlalchemy import text

    key = zlib.crc32(f"polydetr {name}".encode())
    with storage.engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": key})
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})


def _check_file(file: Path) -> None:
    """Raises SaveError where it cannot be made, StudyError where it is there and is no whole study."""
    check_place(file, kept="study file", example="study.db", refused=StudyError)
    if not file.exists():
        return
    try:  # to be written, too: what a killed process left half done is undone
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:  # locked by another process, which is none of our business yet
        if "locked" in str(error):
            return
        raise _damaged(file, str(error)) from None
    except sqlite3.DatabaseError as error:
        raise _damaged(file, str(error)) from None
    if found != "ok":
        raise _damaged(file, str(found))
    if tables and not tables & _TABLES:
        raise StudyError(
            f"the file {str(file)!r} is a database of something else: it has no studies.", hint="Name another one."
        )


def _damaged(file: Path, reason: str) -> StudyError:
    return StudyError(
        f"the study file {str(file)!r} is damaged, or no study: {shown(reason, 200)}.",
        hint="Nothing was trained and nothing changed. Name another, or remove it.",
    )


def _optuna() -> Any:
    """Raises ConfigError where it is not installed."""
    try:
        import optuna
    except ImportError:
        raise ConfigError("tuning needs Optuna, which is not installed.", hint=f"{pip_install('tune')}.") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
