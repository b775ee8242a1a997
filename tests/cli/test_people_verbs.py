"""``polydetr people`` and ``polydetr store``, as a user types them."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from polydetr.core.installed import pip_install
from polydetr.web.people import passwords
from polydetr.web.people.people import People
from polydetr.web.store.database import Database

PASSWORD = "correct horse battery"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, where the default store lies; hashes cost nothing."""
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", lambda: quick)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """What comes in as standard input, which is no terminal."""
    return lambda text: monkeypatch.setattr(sys, "stdin", io.StringIO(text))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_people_come_and_go(run: Run, typed: Callable[[str], None], place: Path) -> None:
    typed(PASSWORD + "\n")
    assert run("people", "add", "Anna", "--role", "admin") == (
        0, "", "polydetr: 'Anna' may sign in as admin; the store holds the hash of the password\n"
        "polydetr: a service that runs without people asks nobody to sign in until polydetr serve is restarted\n",
    )  # fmt: skip
    typed(PASSWORD + "\r\n")
    code, out, err = run("people", "add", "Bo", "--json")
    assert (code, json.loads(out)) == (0, {"name": "Bo", "role": "viewer"})
    assert PASSWORD not in out + err
    assert "restarted" not in err
    assert (place / "polydetr-studio.db").is_file()
    code, out, _ = run("people", "list")
    assert [line.split(",")[0] for line in out.splitlines()] == ["Anna  admin", "Bo  viewer"]
    code, out, _ = run("people", "list", "--json")
    assert [person["name"] for person in json.loads(out)] == ["Anna", "Bo"]
    typed("another password\n")
    assert run("people", "password", "bo")[0] == 0
    database = Database.open("polydetr-studio.db")
    assert People(database).sign_in("Bo", "another password")
    database.close()
    code, out, _ = run("people", "remove", "Bo", "--json")
    assert (code, json.loads(out)) == (0, {"removed": "Bo"})
    code, _, err = run("people", "remove", "Anna")
    assert (code, "the last admin" in err) == (2, True)


def test_a_role_is_changed_and_the_last_admin_stays_one(run: Run, typed: Callable[[str], None]) -> None:
    for name, role in (("Anna", "admin"), ("Bo", "viewer")):
        typed(PASSWORD)
        run("people", "add", name, "--role", role)
    code, _, err = run("people", "role", "Anna", "editor")
    assert (code, "the last admin" in err) == (2, True)
    code, out, err = run("people", "role", "bo", "admin", "--json")
    assert (code, json.loads(out)) == (0, {"name": "bo", "role": "admin"})
    assert "may do what an admin may" in err
    assert run("people", "role", "Anna", "editor")[0] == 0
    assert {p["name"]: p["role"] for p in json.loads(run("people", "list", "--json")[1])} == {
        "Anna": "editor", "Bo": "admin",
    }  # fmt: skip
    code, _, err = run("people", "role", "Anna", "king")
    assert (code, "'king'" in err) == (2, True)


def test_a_password_is_asked_twice_on_a_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch, typed: Callable[[str], None]
) -> None:
    answers = iter([PASSWORD, PASSWORD + "x", PASSWORD, PASSWORD])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))
    monkeypatch.setattr(sys, "stdin", Terminal())
    code, _, err = run("people", "add", "Anna")
    assert (code, err) == (2, "polydetr: the two passwords differ: nothing was changed.\n")
    code, _, err = run("people", "add", "Anna")
    assert code == 0
    assert "nobody is an admin yet" in err


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("Anna", "", "no password came in"),
        ("Anna", "short\n", "has 5 characters, and needs at least 12"),
        ("Anna", "x" * 2**20, "At most 1,024"),
        ("<b>", PASSWORD, "'<b>' is no name of a person"),
        ("An\u200bna", PASSWORD, "invisible character U+200B"),
    ],
)
def test_bad_people_are_refused(run: Run, typed: Callable[[str], None], name: str, given: str, said: str) -> None:
    typed(given)
    code, out, err = run("people", "add", name, "--role", "admin")
    assert (code, out) == (2, "")
    assert said in err


def test_a_store_that_is_not_there_is_not_made_by_looking(run: Run, place: Path) -> None:
    for verb in (["people", "list"], ["people", "remove", "Anna"], ["store", "backup", "b.gz"],
                 ["store", "audit"], ["store", "retain", "--days", "3"],
                 ["store", "erase", "--from", "Anna"]):  # fmt: skip
        code, out, err = run(*verb)
        assert (code, out) == (2, "")
        assert "there is no store 'polydetr-studio.db'" in err
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (".", "is a folder"),
        ("mysql://me:geheim@host/x", "not in 'mysql'"),
        ("postgresql://me:geheim@host:port/x", "no address of PostgreSQL"),
        ("postgresql://me:geheim@/x?host=/nowhere", "cannot be reached"),
    ],
)
def test_bad_addresses_are_refused(run: Run, typed: Callable[[str], None], address: str, said: str) -> None:
    typed(PASSWORD)
    code, out, err = run("people", "add", "Anna", "--store", address)
    assert code in (1, 2)
    assert said in err
    assert "geheim" not in out + err


def test_a_store_goes_into_a_file_and_into_another_database(
    run: Run, typed: Callable[[str], None], postgresql_server: object, request: pytest.FixtureRequest
) -> None:
    from postgresql_server import new_database

    typed(PASSWORD)
    assert run("people", "add", "Anna", "--role", "admin")[0] == 0
    code, out, _ = run("store", "backup", "b.gz", "--json")
    told = json.loads(out)
    assert (code, told["file"]) == (0, "b.gz")
    assert {name: count for name, count in told["rows"].items() if count} == {"audit": 1, "people": 1}
    code, _, err = run("store", "restore", "b.gz")
    assert (code, "--overwrite" in err) == (2, True)
    address = new_database(request)
    assert run("store", "restore", "b.gz", "--store", address)[0] == 0
    code, out, _ = run("people", "list", "--store", address, "--json")
    assert [person["name"] for person in json.loads(out)] == ["Anna"]
    Path("b.gz").write_bytes(b"cut off")
    code, _, err = run("store", "restore", "b.gz", "--overwrite")
    assert (code, "nothing was changed" in err) == (2, True)


def test_who_did_what_is_shown_the_newest_last(run: Run, typed: Callable[[str], None]) -> None:
    for name, role in (("Anna", "admin"), ("Bo", "viewer")):
        typed(PASSWORD)
        run("people", "add", name, "--role", role)
    run("people", "role", "Bo", "editor")
    code, out, err = run("store", "audit")
    assert (code, err) == (0, "polydetr: 3 entries, times in UTC\n")
    first, _, last = out.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d [\d:]{8}  '\(command line\)'  add person 'Anna' role admin", first)
    assert last.endswith("set role 'Bo' role editor, before viewer")
    (entry,) = json.loads(run("store", "audit", "--last", "1", "--json")[1])
    assert (entry["who"], entry["action"], entry["about"]) == ("(command line)", "set role", "Bo")
    assert run("store", "audit", "--person", "Anna")[1] == ""
    assert run("store", "audit", "--last", "0")[0] == 2


def test_what_is_old_and_what_came_from_somebody_leaves(run: Run, typed: Callable[[str], None]) -> None:
    for name, role in (("Anna", "admin"), ("Bogdanowicz", "viewer")):
        typed(PASSWORD)
        run("people", "add", name, "--role", role)
    code, out, _ = run("store", "retain", "--days", "30", "--json")
    assert (code, json.loads(out)["removed"]) == (0, {"audit": 0, "sessions": 0, "throttle": 0, "corrections": 0})
    code, out, err = run("store", "erase", "--from", "Bogdanowicz", "--json")
    assert (code, json.loads(out)) == (0, {"removed": {"audit": 1, "people": 1}})
    assert "backups and exports made before are yours to remove" in err
    assert b"Bogdanowicz" not in Path("polydetr-studio.db").read_bytes()
    assert run("store", "erase", "--from", "Bogdanowicz")[0] == 2
    assert run("store", "retain", "--days", "0")[0] == 2


def test_what_is_not_installed_is_named_with_its_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polydetr.core.installed.is_installed", lambda module: module != "alembic")
    code, _, err = run("people", "list")
    assert code == 2
    assert f"people and stores need alembic, which is not installed. {pip_install('studio')}" in err
