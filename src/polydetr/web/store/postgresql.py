"""PostgreSQL as a store: one writer at a time, as with SQLite, and readers that see one state."""

from __future__ import annotations

from sqlalchemy import Connection, Engine, create_engine

from polydetr.core.databases import Address
from polydetr.web.store.tables import metadata

_CONNECT_SECONDS = 10
_WRITERS = 0x706F6C79  # "poly": the number of the lock that a writer holds until its transaction ends


def engine_of(address: Address) -> Engine:
    """Connections that are tried before they are used: the server may have been started anew meanwhile."""
    return create_engine(
        address.url, pool_pre_ping=True, pool_size=8, max_overflow=24, pool_timeout=60, hide_parameters=True,
        connect_args={"connect_timeout": _CONNECT_SECONDS, "application_name": "polydetr"},
    )  # fmt: skip


def begin(connection: Connection, *, writes: bool, seconds: int) -> None:
    """Of a process that stops in the middle of a transaction the server lets go by itself."""
    if not writes:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        return
    connection.exec_driver_sql(
        f"SET LOCAL lock_timeout = '{seconds}s'; SET LOCAL idle_in_transaction_session_timeout = '{2 * seconds}s'; "
        f"SELECT pg_advisory_xact_lock({_WRITERS})"
    )


def compact(connection: Connection) -> None:
    """Writes the tables anew. What the server logs for its own recovery or archives is its administrator's."""
    connection = connection.execution_options(isolation_level="AUTOCOMMIT")
    for table in metadata.tables:
        connection.exec_driver_sql(f"VACUUM (FULL) {table}")
