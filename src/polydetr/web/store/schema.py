"""The tables' version: which one a database has, and how it gets this one's. Alembic's migrations, run from here."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, text

from polydetr.core.installed import pip_upgrade
from polydetr.errors import StoreError, listed, quoted
from polydetr.web.store.tables import metadata

VERSION_TABLE = "polydetr_version"
"""Where Alembic writes the version; not its usual name, so that another program's is never taken for ours."""
_ALEMBIC = threading.Lock()
"""Alembic keeps the migration that runs in a global variable."""


def newest() -> str:
    """The version of this program."""
    return _scripts().get_current_head() or ""


def versions() -> list[str]:
    """All that this program knows, the oldest first."""
    return [script.revision for script in reversed(list(_scripts().walk_revisions()))]


def version_of(connection: Connection) -> str | None:
    """The version of a database; None where it has no tables of ours.

    Raises:
        StoreError: it has tables of another program where ours would stand.
    """
    tables = set(inspect(connection).get_table_names())
    if VERSION_TABLE in tables:
        return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    in_the_way = tables if connection.dialect.name == "sqlite" else tables & set(metadata.tables)
    if in_the_way:
        raise StoreError(
            f"this is a database of something else: it has the tables {listed(sorted(in_the_way), limit=120)}.",
            hint="Name another one.",
        )
    return None


def check_known(version: str) -> None:
    """Raises StoreError where a newer program made the database."""
    if version not in versions():
        raise StoreError(
            f"the store has version {quoted(version)} of the tables, and this program knows them up to {newest()}: "
            "a newer polydetr made it.",
            hint=f"{pip_upgrade()}, or name another store.",
        )


def upgrade(connection: Connection, version: str = "head") -> None:
    """Brings the tables to ``version`` in the transaction of ``connection``: wholly or not at all."""
    from alembic import command

    with _ALEMBIC:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, version)


def _config() -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def _scripts() -> Any:
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_config())
