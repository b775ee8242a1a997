"""A store goes into one file and comes back the same, from either kind of database into either."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import sqlite3
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, LargeBinary, Numeric, Table, insert, select, text

from polydetr.errors import DataFileError, OutputError, SaveError
from polydetr.web.people.audit import Audit
from polydetr.web.people.people import People
from polydetr.web.store import backup, schema
from polydetr.web.store.database import Database
from polydetr.web.store.retention import retain
from polydetr.web.store.tables import audit, corrected_images, keeping_of, metadata, sessions
from postgresql_server import new_database

Open = Callable[[str | Path], Database]
PASSWORD = "correct horse battery"


@pytest.fixture(params=["into sqlite", "into postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path, open_store: Open) -> Database:
    """Another empty store, of each kind."""
    return open_store(tmp_path / "target.db" if "sqlite" in request.param else new_database(request))


def content(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    with database.read() as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(select(table))), key=repr)
            for table in metadata.sorted_tables
            if keeping_of(table).backup
        }


def lines_of(file: Path) -> list[bytes]:
    return gzip.decompress(file.read_bytes()).splitlines(keepends=True)


def write_lines(file: Path, lines: list[bytes], *, with_checksum: bool = True) -> None:
    if with_checksum:
        tail = json.loads(lines[-1])
        tail["sha256"] = hashlib.sha256(b"".join(lines[:-1])).hexdigest()
        lines = [*lines[:-1], json.dumps(tail).encode() + b"\n"]
    file.write_bytes(gzip.compress(b"".join(lines)))


def test_a_restored_copy_answers_the_same(crowd: People, store: Database, target: Database, tmp_path: Path) -> None:
    token = crowd.sign_in("Anna", PASSWORD)
    Audit(store).note("Anna", "said", "中文 \U0001f600", n=1, share=0.5, none=None, yes=True)
    file = tmp_path / "b.gz"
    rows = backup.save(store, file)
    assert rows == {name: len(found) for name, found in content(store).items()}
    assert backup.restore(target, file) == rows
    assert content(target) == content(store)
    copied = People(target)
    assert copied.list() == crowd.list()
    assert copied.person_of(token) is None, "sessions stay out of backups"
    assert copied.sign_in("Bo", PASSWORD)
    copied.add("Cy", PASSWORD)
    assert [person.id for person in copied.list()] == [1, 2, 3], "ids go on after the largest"


def test_a_restore_replaces_what_was_there_only_when_told(
    crowd: People, store: Database, target: Database, tmp_path: Path
) -> None:
    file = tmp_path / "b.gz"
    backup.save(store, file)
    People(target).add("Old", PASSWORD, role="admin")
    People(target).sign_in("Old", PASSWORD)
    before = content(target)
    with pytest.raises(OutputError, match=r"holds something. Replace it: --overwrite"):
        backup.restore(target, file)
    assert content(target) == before
    backup.restore(target, file, overwrite=True)
    assert content(target) == content(store)
    with target.read() as connection:
        assert connection.execute(select(sessions)).all() == []


def test_a_backup_holds_one_state_whoever_writes(store: Database, tmp_path: Path, monkeypatch: Any) -> None:
    def note(number: int) -> None:
        Audit(store).note("Anna", "said", str(number))

    for number in range(20):
        note(number)
    seen: list[int] = []
    plain = backup._plain

    def slow(value: Any, kind: str) -> Any:
        if not seen:
            seen.append(1)
            writer = threading.Thread(target=lambda: [note(n) for n in range(20, 30)])
            writer.start()
            writer.join()
        return plain(value, kind)

    monkeypatch.setattr(backup, "_plain", slow)
    assert backup.save(store, tmp_path / "b.gz")["audit"] == 20
    assert len(Audit(store).entries()) == 30


def test_a_program_that_reads_goes_on_after_a_restore(crowd: People, store: Database, tmp_path: Path) -> None:
    """Its connections are open while the tables are made anew."""
    backup.save(store, tmp_path / "b.gz")
    crowd.add("Cy", PASSWORD)
    other = Database.open(store.address.url.replace("+psycopg", "") if "postgres" in store.address.url else
                          store.address.shown)  # fmt: skip
    for _ in range(8):  # until the driver prepares the statement
        assert len(People(other).list()) == 3
    backup.restore(store, tmp_path / "b.gz", overwrite=True)
    assert len(People(other).list()) == 2
    other.close()


def test_a_backup_is_its_owners_alone_and_the_same_for_the_same_rows(
    crowd: People, store: Database, tmp_path: Path
) -> None:
    one, two = tmp_path / "one.gz", tmp_path / "two.gz"
    backup.save(store, one)
    backup.save(store, two)
    assert lines_of(one)[1:-1] == lines_of(two)[1:-1]
    assert one.stat().st_mode & 0o777 == 0o600


# -- damaged, newer, older --------------------------------------------------------------------------------------------


@pytest.fixture
def backed_up(crowd: People, store: Database, tmp_path: Path) -> Path:
    for number in range(30):
        Audit(store).note("Anna", "said", f"{number} \U0001f600")
    backup.save(store, tmp_path / "b.gz")
    return tmp_path / "b.gz"


def refused(database: Database, file: Path, message: str) -> None:
    before = content(database)
    with pytest.raises(DataFileError, match=message) as raised:
        backup.restore(database, file, overwrite=True)
    assert "nothing was changed" in str(raised.value)
    assert str(file) in str(raised.value)
    assert content(database) == before
    with database.read() as connection:
        assert schema.version_of(connection) == schema.newest()


def test_a_file_cut_anywhere_or_with_another_byte_is_refused(backed_up: Path, store: Database) -> None:
    whole = backed_up.read_bytes()
    for end in [0, 1, 10, 40, len(whole) // 2, len(whole) - 9, len(whole) - 8, len(whole) - 1]:
        backed_up.write_bytes(whole[:end])
        refused(store, backed_up, "no backup of a store, or damaged")
    for place in range(10, len(whole), max(1, len(whole) // 25)):
        backed_up.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        refused(store, backed_up, "no backup of a store, or damaged|newer polydetr")
    backed_up.write_bytes(whole + b"more")
    refused(store, backed_up, "damaged")
    backed_up.write_bytes(whole)
    backup.restore(store, backed_up, overwrite=True)


def test_lines_lost_added_or_changed_are_refused(backed_up: Path, store: Database) -> None:
    whole = lines_of(backed_up)
    for lines in (whole[:5] + whole[6:], [*whole[:5], whole[4], *whole[5:]], whole[:-1], [*whole, b"{}\n"], whole[1:]):
        write_lines(backed_up, lines, with_checksum=False)
        refused(store, backed_up, "damaged")
    write_lines(backed_up, whole[:5] + whole[6:])
    refused(store, backed_up, "its checksum is another")
    swapped = [whole[0], *whole[2:-1], whole[1], whole[-1]]
    write_lines(backed_up, swapped, with_checksum=False)
    refused(store, backed_up, "its checksum is another")


TIME = "2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    "line",
    ["[]", "{}", "null", "not json", "[1,2]", '["other",[]]', '["audit",[1]]', "[" * 10**5, "[NaN,1]",
     f'["audit",["x","{TIME}","a","b","c",{{}}]]', f'["audit",[{10**30},"{TIME}","a","b","c",{{}}]]',
     f'["audit",[1,"{TIME}","a","b","c",{{}}]]', f'["audit",[99,"{TIME}",null,"b","c",{{}}]]',
     f'["audit",[99,"{TIME}",5,"b","c",{{}}]]', f'["people",[99,"k","n","king","p","{TIME}"]]',
     '["audit",[99,"no time","a","b","c",{}]]', f'["audit",[99,"{TIME}","\\ud800","b","c",{{}}]]'],
)  # fmt: skip
def test_lines_that_are_no_rows_are_refused(
    backed_up: Path, store: Database, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also rows that only the database refuses."""
    monkeypatch.setattr(backup, "_AT_ONCE", 1)
    whole, wrong = lines_of(backed_up), line.encode() + b"\n"
    write_lines(backed_up, [*whole[:3], wrong, *whole[3:]])
    refused(store, backed_up, "damaged")
    write_lines(backed_up, [wrong, *whole[1:]])
    refused(store, backed_up, "damaged")


@pytest.mark.parametrize(
    "tables",
    [{}, {"audit": {"id": "integer"}}, {"people; DROP TABLE audit": {}}, {"sqlite_master": {"name": "text"}}, [], "x",
     {"audit": None}],
)  # fmt: skip
def test_a_head_with_other_tables_is_refused(backed_up: Path, store: Database, tables: Any) -> None:
    whole = lines_of(backed_up)
    head = {**json.loads(whole[0]), "tables": tables}
    write_lines(backed_up, [json.dumps(head).encode() + b"\n", *whole[1:]])
    refused(store, backed_up, "damaged")


@pytest.mark.parametrize("newer", [{"polydetr_store": 2}, {"version": "9999"}])
def test_a_newer_file_is_refused_by_name(backed_up: Path, store: Database, newer: dict[str, Any]) -> None:
    whole = lines_of(backed_up)
    write_lines(backed_up, [json.dumps({**json.loads(whole[0]), **newer}).encode() + b"\n", *whole[1:]])
    refused(store, backed_up, r"written by a newer polydetr .*pip install --upgrade")


def test_a_backup_of_the_first_version_is_brought_up_to_date(store: Database, tmp_path: Path) -> None:
    """Written by hand as the first version wrote it: it must be readable for ever."""
    head = {
        "polydetr_store": 1, "version": "0001", "created": "2026-01-01T00:00:00+00:00",
        "tables": {
            "people": {"id": "integer", "key": "text", "name": "text", "role": "text", "password": "text",
                       "created": "moment"},
            "audit": {"id": "integer", "at": "moment", "who": "text", "action": "text", "about": "text",
                      "detail": "json"},
        },
    }  # fmt: skip
    rows = [
        ["people", [7, "anna", "Anna", "admin", "$argon2id$x", "2026-01-01T00:00:00+00:00"]],
        ["audit", [9, "2026-01-02T08:00:00+08:00", "Anna", "said", "x", {"n": 1}]],
    ]
    tail = {"rows": {"people": 1, "audit": 1}, "sha256": ""}
    file = tmp_path / "old.gz"
    write_lines(file, [json.dumps(line).encode() + b"\n" for line in (head, *rows, tail)])
    assert backup.restore(store, file) == {"people": 1, "audit": 1}
    (person,) = People(store).list()
    assert (person.id, person.name, person.created) == (7, "Anna", datetime(2026, 1, 1, tzinfo=UTC))
    (entry,) = Audit(store).entries()
    assert (entry.at, dict(entry.detail)) == (datetime(2026, 1, 2, tzinfo=UTC), {"n": 1})
    with store.read() as connection:
        assert schema.version_of(connection) == schema.newest()


# -- places -----------------------------------------------------------------------------------------------------------


def test_other_files_are_not_overwritten(store: Database, tmp_path: Path) -> None:
    for name, bytes_ in [
        ("a.txt", b"mine"),
        ("b.gz", gzip.compress(b"mine")),
        ("c.gz", gzip.compress(b"{}")),
        ("d", b""),
    ]:
        file = tmp_path / name
        file.write_bytes(bytes_)
        with pytest.raises(OutputError, match="is another file, no backup"):
            backup.save(store, file)
        assert file.read_bytes() == bytes_
    with pytest.raises(SaveError):
        backup.save(store, tmp_path)
    with pytest.raises(SaveError):
        backup.save(store, tmp_path / "a.txt" / "b.gz")
    backup.save(store, tmp_path / "new.gz")
    backup.save(store, tmp_path / "new.gz")


def test_a_full_disk_keeps_the_older_backup(store: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "b.gz"
    backup.save(store, file)
    before = file.read_bytes()

    def full(self: Any, value: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup._Lines, "write", full)
    with pytest.raises(SaveError, match="No space left on device"):
        backup.save(store, file)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.glob("*.part")] == []


def test_a_large_image_comes_back_and_what_would_not_is_no_backup(
    open_store: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, file = open_store(tmp_path / "s.db"), tmp_path / "b.gz"
    with store.write() as connection:
        connection.execute(insert(corrected_images).values(sha256="0" * 64, content=bytes(50 << 20)))
    backup.save(store, file)
    assert backup.restore(open_store(tmp_path / "t.db"), file)["corrected_images"] == 1
    before = file.read_bytes()
    monkeypatch.setattr(backup, "_LONGEST_LINE", 10_000_000)
    with pytest.raises(SaveError, match=r"a row of corrected_images takes 69,905,161 bytes"):
        backup.save(store, file)
    assert file.read_bytes() == before


def test_every_column_has_a_kind_and_bytes_come_back() -> None:
    for table in metadata.sorted_tables:
        assert all(backup.kind_of(column) for column in table.columns)
    value = backup._plain(b"\0\xff", "bytes")
    assert backup._value(value, "bytes") == base64.b64decode(value) == b"\0\xff"
    assert backup.kind_of(Column("x", LargeBinary)) == "bytes"
    with pytest.raises(TypeError, match="a type that backups do not know"):
        backup.kind_of(Column("x", Numeric))


# -- retention --------------------------------------------------------------------------------------------------------


def test_what_is_older_leaves_and_people_stay(crowd: People, store: Database, clock: Any) -> None:
    now = datetime.now(UTC)
    with store.write() as connection:
        connection.execute(audit.delete())
        for age in (1, 5, 10, 40):
            connection.execute(
                insert(audit).values(at=now - timedelta(days=age), who="Anna", action="said", about=str(age), detail={})
            )
    clock.now = now - timedelta(days=20)
    crowd.sign_in("Bo", PASSWORD)
    with store.write() as connection:
        connection.execute(audit.delete().where(audit.c.action == "sign in"))
    removed = retain(store, 10, now=now + timedelta(seconds=1))
    assert removed == {"sessions": 1, "throttle": 0, "audit": 2, "corrections": 0}
    assert [entry.about for entry in Audit(store).entries()] == ["5", "1"]
    assert len(crowd.list()) == 2
    for days in (0, -1, 10**9):
        with pytest.raises(ValueError, match="no number of days"):
            retain(store, days)


def test_every_table_says_how_it_is_kept() -> None:
    for table in metadata.sorted_tables:
        keeping = keeping_of(table)
        named = [*keeping.people, *filter(None, (keeping.dated, keeping.detail))]
        assert set(named) <= set(table.columns.keys())
        assert keeping.follows is None or any(
            key.column.table.name == keeping.follows and key.ondelete == "CASCADE" for key in table.foreign_keys
        )
        assert isinstance(table, Table)


def test_sqlite_itself_finds_nothing_wrong_after_all_that(crowd: People, tmp_path: Path, open_store: Open) -> None:
    file = tmp_path / "whole.db"
    database = open_store(file)
    people = People(database)
    people.add("Anna", PASSWORD, role="admin")
    backup.save(database, tmp_path / "w.gz")
    backup.restore(database, tmp_path / "w.gz", overwrite=True)
    database.compact()
    database.close()
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    with database.read() as again:
        assert again.execute(text("SELECT count(*) FROM people")).scalar_one() == 1
