"""The store opens, waits, fails in our words and comes back, the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, create_engine, event, func, inspect, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from polydetr.errors import ConfigError, PolydetrError, SaveError, StoreError, StoreUnavailable
from polydetr.web.store import schema, sqlite
from polydetr.web.store.database import Database
from polydetr.web.store.tables import audit, keeping_of, metadata, people
from postgresql_server import new_database, start_again

Open = Callable[[str | Path], Database]
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def add(connection: Connection, *, about: str = "x", **detail: Any) -> None:
    connection.execute(audit.insert().values(at=NOW, who="Anna", action="said", about=about, detail=detail))


def note(database: Database, about: str = "x") -> None:
    with database.write() as connection:
        add(connection, about=about, n=1)


def count(database: Database) -> int:
    with database.read() as connection:
        return connection.execute(select(func.count()).select_from(audit)).scalar_one()


def test_what_is_written_is_there_in_another_process(open_store: Open, store: Database, store_address: str) -> None:
    note(store, about="中文 \U0001f600")
    with open_store(store_address).read() as connection:
        row = connection.execute(select(audit)).one()
    assert (row.at, row.who, row.about, row.detail) == (NOW, "Anna", "中文 \U0001f600", {"n": 1})


def test_times_keep_their_moment_and_one_without_a_zone_is_refused(store: Database) -> None:
    east = timezone(timedelta(hours=8))
    with store.write() as connection:
        connection.execute(audit.insert().values(at=NOW.astimezone(east), who="a", action="b", about="c", detail={}))
    with store.read() as connection:
        assert connection.execute(select(audit.c.at)).scalar_one() == NOW
    with pytest.raises(Exception, match="without its zone"), store.read() as connection:
        connection.execute(select(audit).where(audit.c.at > NOW.replace(tzinfo=None)))


def test_an_error_in_the_block_undoes_it(store: Database) -> None:
    def fail() -> None:
        with store.write() as connection:
            add(connection)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert count(store) == 0
    note(store)
    assert count(store) == 1


def test_a_reader_sees_one_state_and_cannot_write(store: Database) -> None:
    with store.read() as connection:
        before = connection.execute(select(func.count()).select_from(audit)).scalar_one()
        with ThreadPoolExecutor(1) as other:
            other.submit(note, store).result()
        assert connection.execute(select(func.count()).select_from(audit)).scalar_one() == before == 0
    with pytest.raises(DBAPIError), store.read() as connection:
        connection.execute(audit.delete())
    assert count(store) == 1


def test_a_broken_constraint_is_the_callers(store: Database) -> None:
    with pytest.raises(IntegrityError), store.write() as connection:
        connection.execute(people.insert().values(key="a", name="a", role="king", password="x", created=NOW))
    anna = {"key": "a", "name": "a", "role": "admin", "password": "secret hash", "created": NOW}
    with pytest.raises(IntegrityError) as raised, store.write() as connection:
        connection.execute(people.insert().values([anna, anna]))
    assert "secret hash" not in str(raised.value)


def test_the_migrations_make_the_tables_that_the_code_knows(store: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    with store.read() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE})
        assert compare_metadata(context, metadata) == []
        found = set(inspect(connection).get_table_names())
    assert found == {*metadata.tables, schema.VERSION_TABLE}
    assert all(keeping_of(table) for table in metadata.tables.values())


def test_all_migrations_make_one_line() -> None:
    versions = schema.versions()
    assert versions == sorted(versions)
    assert versions[-1] == schema.newest()


# -- many at once -----------------------------------------------------------------------------------------------------

WRITER = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from sqlalchemy import func, select
from polydetr.web.store.database import Database
from polydetr.web.store.tables import audit
database = Database.open(sys.argv[1])
def work(thread):
    for turn in range(4):
        with database.write() as connection:  # reads first, then writes what depends on it
            n = connection.execute(select(func.count()).select_from(audit)).scalar_one()
            connection.execute(audit.insert().values(
                at=datetime.now(UTC), who=f"{sys.argv[2]}.{thread}", action="said", about=str(n), detail={}))
        with database.read() as connection:
            connection.execute(select(func.max(audit.c.id))).scalar_one()
with ThreadPoolExecutor(10) as pool:
    list(pool.map(work, range(10)))
"""


def test_fifty_writers_of_five_processes_wait_for_each_other(open_store: Open, store_address: str) -> None:
    """They also open it at once, while it has no tables. What each read before it wrote still held when it wrote."""
    calls = [
        subprocess.Popen([sys.executable, "-c", WRITER, store_address, str(n)], stderr=subprocess.PIPE, text=True)
        for n in range(5)
    ]
    errors = [call.communicate()[1] for call in calls]
    assert [call.returncode for call in calls] == [0] * 5, errors
    with open_store(store_address).read() as connection:
        numbers = connection.execute(select(audit.c.about)).scalars().all()
    assert sorted(map(int, numbers)) == list(range(200))


def test_who_waits_too_long_for_another_writer_is_told(
    store: Database, open_store: Open, store_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sqlite.PRAGMAS, "busy_timeout", 300)
    monkeypatch.setattr("polydetr.web.store.database.BUSY_SECONDS", 1)
    other = open_store(store_address)
    with store.write() as connection:
        add(connection)
        with pytest.raises(StoreUnavailable, match="lock"):
            note(other)
        assert count(other) == 0, "readers do not wait"
    note(other)
    assert count(store) == 2


# -- gone and back ----------------------------------------------------------------------------------------------------


def test_a_file_that_is_gone_is_told_and_works_once_it_is_back(open_store: Open, tmp_path: Path) -> None:
    file, away = tmp_path / "s.db", tmp_path / "away"
    database = open_store(file)
    note(database)
    database.close()  # so that the log is in the file
    away.mkdir()
    shutil.move(file, away / "s.db")
    for call in (count, note):
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            call(database)
    assert not file.exists(), "an empty one was made behind the user's back"
    shutil.move(away / "s.db", file)
    note(database)
    assert count(database) == 2


def test_a_file_that_is_replaced_while_it_is_open_is_not_written_to_where_nobody_reads(
    open_store: Open, tmp_path: Path
) -> None:
    file = tmp_path / "s.db"
    database, other = open_store(file), open_store(tmp_path / "other.db")
    note(database)
    note(other)
    note(other)
    other.close()
    for part in tmp_path.glob("s.db*"):
        part.unlink()
    shutil.move(tmp_path / "other.db", file)
    assert count(database) == 2
    for part in tmp_path.glob("s.db*"):
        part.unlink()
    file.touch()
    with pytest.raises(StoreUnavailable, match="no such table"):
        count(database)


def test_a_server_that_is_started_anew_is_reached_again(
    open_store: Open, postgresql_server: Any, request: pytest.FixtureRequest
) -> None:
    database = open_store(new_database(request))
    note(database)
    postgresql_server.stop()
    try:
        for call in (count, note):
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                call(database)
    finally:
        start_again(postgresql_server)
    note(database)
    assert count(database) == 2


def test_a_connection_that_breaks_in_the_middle_is_told_and_nothing_is_kept(
    open_store: Open, request: pytest.FixtureRequest
) -> None:
    database = open_store(new_database(request))

    def break_off() -> None:
        with database.write() as connection:
            add(connection)
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            with database.engine.connect() as other:
                other.execute(text(f"SELECT pg_terminate_backend({pid})"))
            add(connection)

    with pytest.raises(StoreUnavailable, match="terminat"):
        break_off()
    assert count(database) == 0


# -- what is refused --------------------------------------------------------------------------------------------------


def test_a_newer_version_is_refused_by_name(store: Database, store_address: str) -> None:
    with store.write() as connection:
        connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(StoreError, match=r"version '9999'.*a newer polydetr made it.*pip install --upgrade"):
        Database.open(store_address)


def test_a_database_of_something_else_is_refused_and_left_alone(store_address: str) -> None:
    url = store_address if "://" in store_address else f"sqlite:///{store_address}"
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE people (cats INTEGER)"))
    with pytest.raises(StoreError, match="database of something else: it has the tables 'people'"):
        Database.open(store_address)
    with engine.begin() as connection:
        assert inspect(connection).get_table_names() == ["people"]
    engine.dispose()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("mysql://me:geheim@host/x", "kept in SQLite or PostgreSQL, not in 'mysql'"),
        ("http://host/x", "not in 'http'"),
        ("", "names no file"),
        ("sqlite://", "names no file"),
        (":memory:", "names no file"),
        ("a\0b", "names no file"),
        ("postgresql://me:geheim@host:port/x", "no address of PostgreSQL"),
    ],
)
def test_what_is_no_address_is_refused(address: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        Database.open(address)
    assert "geheim" not in str(raised.value)


def test_passwords_of_addresses_are_never_shown(tmp_path: Path) -> None:
    address = f"postgresql://me:geheim@/x?host={tmp_path}&connect_timeout=1&sslpassword=geheim"
    with pytest.raises(StoreUnavailable, match="cannot be reached") as raised:
        Database.open(address)
    chain: BaseException | None = raised.value
    while chain:
        assert "geheim" not in str(chain)
        assert "geheim" not in repr(chain)
        chain = chain.__cause__ or chain.__context__


def test_a_missing_driver_is_named_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"psycopg, which is not installed. pip install '.*\[postgresql\]'"):
        Database.open("postgresql://me@host/x")


def test_a_folder_and_a_file_of_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a folder"):
        Database.open(tmp_path)
    other = tmp_path / "notes.txt"
    other.write_text("text,label\n" * 9)
    with pytest.raises(StoreError, match=r"is no database: it begins with 'text,label\\n"):
        Database.open(other)
    assert other.read_text() == "text,label\n" * 9
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError, match="no ordinary file"):
        Database.open(tmp_path / "pipe")
    with pytest.raises(SaveError, match="cannot write to"):
        Database.open(other / "s.db")


def test_a_damaged_file_is_told(open_store: Open, tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    database = open_store(file)
    note(database)
    database.close()
    content = file.read_bytes()
    file.write_bytes(content[:100] + b"\xff" * (len(content) - 100))
    with pytest.raises(StoreError, match="damaged"):
        Database.open(file)
    file.write_bytes(content[:5000])
    with pytest.raises(StoreError, match="damaged"):
        Database.open(file)


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: object, *more: object, **options: object) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("polydetr.web.store.sqlite.os.open", refused)
    with pytest.raises(SaveError, match="Permission denied"):
        Database.open(tmp_path / "s.db")


def test_a_server_that_does_not_let_us_make_tables(request: pytest.FixtureRequest) -> None:
    address = new_database(request)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS guest")
        connection.execute("CREATE ROLE guest LOGIN")
    with pytest.raises(SaveError, match="permission denied"):
        Database.open(address.replace("postgres:@", "guest@"))


def test_a_full_disk_is_told_and_nothing_changed(open_store: Open, tmp_path: Path) -> None:
    """The file may grow no further: what SQLite finds is what it finds on a full disk."""
    database = open_store(tmp_path / "s.db")
    note(database)

    def bound(connection: sqlite3.Connection, record: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # that is: the pages that it has

    database.close()
    event.listen(database.engine, "connect", bound)

    def fill() -> None:
        with database.write() as connection:
            for _ in range(100):
                add(connection, long="x" * 1000)

    with pytest.raises(SaveError, match=r"no room left .*nothing was changed"):
        fill()
    event.remove(database.engine, "connect", bound)
    database.close()
    note(database)
    assert count(database) == 2


def test_the_file_is_its_owners_alone(open_store: Open, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "s.db"
    database = open_store(file)
    note(database)
    assert {stat.S_IMODE(part.stat().st_mode) for part in file.parent.glob("s.db*")} == {0o600}


def test_a_pragma_that_does_not_take_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sqlite.PRAGMAS, "journal_mode", "wal2")
    with pytest.raises(StoreError, match="SQLite has journal_mode=delete there instead of wal2"):
        Database.open(tmp_path / "s.db")


def test_a_program_killed_while_it_makes_the_tables_leaves_none(open_store: Open, tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    code = (
        "import os\nfrom polydetr.web.store import schema\nfrom polydetr.web.store.database import Database\n"
        "made = schema.upgrade\n"
        "schema.upgrade = lambda connection: (made(connection), os.kill(os.getpid(), 9))\n"
        f"Database.open({str(file)!r})"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    connection.close()
    database = open_store(file)
    note(database)
    assert count(database) == 1


def test_errors_are_ours() -> None:
    assert issubclass(StoreUnavailable, StoreError)
    assert issubclass(StoreError, PolydetrError)
    assert (StoreError.exit_code, StoreUnavailable.exit_code) == (2, 1)
