"""Erase what came from a person: no byte of it is left in the files of the store."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from polydetr.errors import InputError, StoreUnavailable
from polydetr.web.people.audit import COMMAND_LINE, Audit
from polydetr.web.people.erasing import erase
from polydetr.web.people.people import People, SignInRefused
from polydetr.web.store import backup
from polydetr.web.store.database import Database
from polydetr.web.store.tables import throttle

PASSWORD = "correct horse battery"
NAME = "Wilhelmina Q"


def bytes_of(store: Database, tmp_path: Path) -> bytes:
    """All bytes in which something could be left: the files of SQLite; of PostgreSQL every table, written out."""
    if store.address.file is not None:
        files = sorted(store.address.file.parent.glob(store.address.file.name + "*"))
        assert files
        return b"".join(file.read_bytes() for file in files)
    with store.read() as connection:
        tables = connection.execute(
            text("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        )
        return "".join(
            str(row) for (table,) in tables.all() for row in connection.execute(text(f'SELECT * FROM "{table}"'))
        ).encode()


@pytest.fixture
def left(crowd: People, store: Database) -> People:
    """Rows that came from a person, in every table, also those that others wrote about her."""
    crowd.add(NAME, PASSWORD, role="editor", by="Anna")
    for _ in range(3):
        crowd.sign_in(NAME, PASSWORD)
    with pytest.raises(SignInRefused):
        crowd.sign_in(NAME, "wrong password")
    for number in range(200):
        Audit(store).note(NAME, "said", f"row {number}", n=number)
    Audit(store).note("Anna", "assigned", "row 7", to=NAME.lower(), n=1)
    Audit(store).note("Anna", "assigned", "row 8", to="Bo")
    return crowd


def test_nothing_is_left_in_any_file(left: People, store: Database, tmp_path: Path) -> None:
    assert NAME.encode() in bytes_of(store, tmp_path)
    rows = erase(store, "wilhelmina q ", by="Anna")
    assert rows == {"people": 1, "sessions": 3, "throttle": 1, "audit": 1 + 3 + 200 + 1}
    for word in (NAME, NAME.lower(), NAME.upper()):
        assert word.encode() not in bytes_of(store, tmp_path)
    with store.read() as connection:
        assert connection.execute(select(throttle)).all() == []
    file = tmp_path / "b.gz"
    backup.save(store, file)
    assert NAME.lower() not in gzip.decompress(file.read_bytes()).decode().lower()
    assert [person.name for person in left.list()] == ["Anna", "Bo"]
    entries = Audit(store).entries()
    assert (entries[0].who, entries[0].action, dict(entries[0].detail)) == ("Anna", "erase person", {"rows": 210})
    assert [entry.about for entry in entries[1:]] == ["row 8", "Bo", "Anna"]
    with pytest.raises(InputError, match="nothing came from 'Wilhelmina Q'"):
        erase(store, NAME)


def test_who_was_removed_before_is_erased_too(left: People, store: Database, tmp_path: Path) -> None:
    left.remove(NAME)
    assert erase(store, NAME)["audit"] == 206
    assert NAME.encode() not in bytes_of(store, tmp_path)
    assert Audit(store).entries()[0].who == COMMAND_LINE


def test_who_erases_himself_is_not_named_in_the_audit(left: People, store: Database, tmp_path: Path) -> None:
    erase(store, NAME, by=NAME)
    assert NAME.encode() not in bytes_of(store, tmp_path)


def test_the_last_admin_and_nobody_are_refused(left: People, store: Database) -> None:
    before = Audit(store).entries()
    with pytest.raises(InputError, match="the last admin"):
        erase(store, "Anna")
    with pytest.raises(InputError, match=r"nothing came from 'Ana'. Did you mean 'Anna'\?"):
        erase(store, "Ana")
    for name in ("", "%", "' OR 1=1 --", "\0", "\ud800", "x" * 10**6):
        with pytest.raises(InputError, match="nothing came from"):
            erase(store, name)
    assert Audit(store).entries() == before


def test_a_name_within_another_is_another(left: People, store: Database) -> None:
    left.add(f"{NAME} Jr", PASSWORD)
    erase(store, NAME)
    assert [person.name for person in left.list()] == ["Anna", "Bo", f"{NAME} Jr"]
    assert f"{NAME} Jr" in [entry.about for entry in Audit(store).entries()]


def test_a_reader_that_holds_the_log_is_told(
    tmp_path: Path, open_store: Callable[..., Database], quick_hashes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is erased is erased; what is left of it in the log goes with the same call, once the reader is gone."""
    from polydetr.web.store import sqlite

    monkeypatch.setitem(sqlite.PRAGMAS, "busy_timeout", 200)
    store = open_store(tmp_path / "s.db")
    people = People(store)
    people.add("Anna", PASSWORD, role="admin")
    people.add(NAME, PASSWORD)
    done, reading = threading.Event(), threading.Event()

    def read() -> None:
        with store.read() as connection:
            connection.execute(text("SELECT * FROM people")).all()
            reading.set()
            done.wait(30)

    reader = threading.Thread(target=read)
    reader.start()
    reading.wait(30)
    try:
        with pytest.raises(StoreUnavailable, match="the log of the store is in use"):
            erase(store, NAME)
    finally:
        done.set()
        reader.join()
    store.compact()
    assert NAME.encode() not in bytes_of(store, tmp_path)


def test_files_are_not_larger_than_what_they_hold(left: People, store: Database, tmp_path: Path) -> None:
    if store.address.file is None:
        sizes: Any = None
        with store.read() as connection:
            sizes = connection.execute(text("SELECT pg_total_relation_size('audit')")).scalar_one()
        erase(store, NAME)
        with store.read() as connection:
            assert connection.execute(text("SELECT pg_total_relation_size('audit')")).scalar_one() < sizes
        return
    before = len(bytes_of(store, tmp_path))
    erase(store, NAME)
    assert len(bytes_of(store, tmp_path)) < before
