"""The store: one database, SQLite or PostgreSQL, that behaves the same either way.

``read()`` is a look at one state of it, in which nothing can be written; ``write()`` is one transaction, and one at a
time: SQLite allows no more, and on PostgreSQL a lock makes it so. What is checked inside a ``write()`` (is there
another admin? has somebody corrected this row meanwhile?) therefore still holds when it is written.

Calls block: from a page or a route, make them in a thread. Opened once per process and shared by its threads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from sqlalchemy import Connection, Engine, event

from polydetr.core.databases import Address, need_driver, read_address
from polydetr.core.lock import held
from polydetr.errors import StoreError, StoreUnavailable
from polydetr.web.store import DEFAULT_ADDRESS, postgresql, schema, sqlite
from polydetr.web.store.failures import told

_WRITES = "polydetr_writes"
BUSY_SECONDS = 60
"""How long a writer waits for its turn."""


class Database:
    """The store at an address. Made by ``open``."""

    def __init__(self, address: Address, engine: Engine) -> None:
        self.address, self.engine = address, engine
        self._turn = threading.Lock()  # threads of one process queue here, which is fairer and cheaper than in SQLite
        event.listen(engine, "begin", self._begin)

    @classmethod
    def open(cls, address: str | Path = DEFAULT_ADDRESS, *, make: bool = True) -> Database:
        """The store, with all tables of this version: made where it is new, brought up to date where it is older.

        address: a file's name, ``sqlite:///FILE`` or ``postgresql://USER@HOST/NAME``. make: False refuses a file that
        is not there.

        Raises:
            ConfigError: no address, or a driver is missing. StoreError: no database of ours, damaged, or made by a
            newer version. StoreUnavailable: it cannot be reached. SaveError: it cannot be written.
        """
        found = read_address(str(address), option="store", kept="people and corrections")
        if found.file is None:
            need_driver()
            database = cls(found, postgresql.engine_of(found))
        else:
            file = found.file.absolute()  # whatever folder is the current one later
            if not make and not file.exists():
                raise StoreError(
                    f"there is no store {found.shown!r}.",
                    hint=f"polydetr people add --role admin --store {found.shown} NAME makes one, or name another.",
                )
            sqlite.check_file(file)
            database = cls(found, sqlite.engine_of(file))
        try:
            with database._opening():
                database._bring_up_to_date()
        except BaseException:
            database.close()
            raise
        return database

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one state of the store, whatever others write meanwhile.

        Raises:
            StoreUnavailable: it cannot be reached now. StoreError: it is damaged.
        """
        with told(self.address, writes=False), self._connection(writes=False) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A connection in a transaction that is kept when the block ends well, and undone otherwise. No other writes
        until then, so keep it short: ask, compute and hash before.

        Raises:
            StoreUnavailable: it cannot be reached now, or others wrote for ``BUSY_SECONDS``. SaveError: it has no room,
            or may only be read; nothing was changed. StoreError: it is damaged.
        """
        with told(self.address, writes=True):
            if not self._turn.acquire(timeout=BUSY_SECONDS):
                raise StoreUnavailable(f"the store {self.address.shown} is busy.", hint="Try again in a moment.")
            try:
                with self._connection(writes=True) as connection:
                    yield connection
            finally:
                self._turn.release()

    def close(self) -> None:
        """Lets go of the database. Another call opens connections anew."""
        self.engine.dispose()

    def compact(self) -> None:
        """Writes the database anew, so that nothing that was removed is left in its files.

        Raises:
            StoreUnavailable: somebody kept an old state open for ``BUSY_SECONDS``. SaveError: there is no room.
        """
        kind = sqlite if self.address.file is not None else postgresql
        with told(self.address, writes=True), self._turn, self.engine.connect() as connection:
            kind.compact(connection.execution_options(**{_WRITES: None}))

    # -- inside -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _connection(self, *, writes: bool) -> Iterator[Connection]:
        with self.engine.connect() as connection:
            connection = connection.execution_options(**{_WRITES: writes})
            with connection.begin():
                yield connection

    def _begin(self, connection: Connection) -> None:
        kind = sqlite if self.address.file is not None else postgresql
        writes = connection.get_execution_options().get(_WRITES, False)
        if writes is not None:  # None: what takes no transaction
            kind.begin(connection, writes=writes, seconds=BUSY_SECONDS)

    @contextmanager
    def _opening(self) -> Iterator[None]:
        """One process at a time makes a file: SQLite does not wait for a file that is being made."""
        file = self.address.file
        lock = nullcontext() if file is None else held(file.with_name(f".{file.name}.lock"), what=repr(str(file)),
                                                       wait=True)  # fmt: skip
        with lock:
            if file is not None:
                sqlite.make_file(file)
            yield

    def _bring_up_to_date(self) -> None:
        """The version is read again under the lock of writers: another process may have been quicker."""
        with self._named(), self.read() as connection:
            if self._is_current(connection):
                return
        with self._named(), self.write() as connection:
            if not self._is_current(connection):
                schema.upgrade(connection)

    def _is_current(self, connection: Connection) -> bool:
        version = schema.version_of(connection)
        if version is not None:
            schema.check_known(version)
        return version == schema.newest()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except StoreError as error:
            if self.address.shown in str(error):
                raise
            raise type(error)(f"{self.address.shown}: {error.message}", hint=error.hint) from None
