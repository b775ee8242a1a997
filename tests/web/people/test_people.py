"""People, their passwords and their sessions, on both kinds of database."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import pytest
from sqlalchemy import select, update

from polydetr.errors import ConfigError, InputError, SaveError
from polydetr.web.people import passwords, throttle
from polydetr.web.people.audit import COMMAND_LINE, Audit
from polydetr.web.people.names import checked_name, key_of
from polydetr.web.people.people import People, SignInRefused
from polydetr.web.store.database import Database
from polydetr.web.store.tables import metadata, sessions
from polydetr.web.store.tables import people as people_table

PASSWORD, OTHER = "correct horse battery", "staple of another kind"


def test_who_may_what(crowd: People) -> None:
    anna, bo = crowd.list()
    assert (anna.name, anna.role, bo.name, bo.role) == ("Anna", "admin", "Bo", "viewer")
    crowd.set_role("bo", "editor")
    bo = crowd.list()[1]
    assert [anna.may(role) for role in ("viewer", "editor", "admin")] == [True, True, True]
    assert [bo.may(role) for role in ("viewer", "editor", "admin")] == [True, True, False]


def test_nobody_is_there_at_first(store: Database, quick_hashes: None) -> None:
    people = People(store)
    assert not people.any()
    assert people.list() == []
    people.add("阿·卜", PASSWORD)
    assert people.any()


def test_signed_in_and_out(crowd: People) -> None:
    token = crowd.sign_in("ANNA ", PASSWORD)
    person = crowd.person_of(token)
    assert person is not None
    assert person.name == "Anna"
    crowd.sign_out(token)
    assert crowd.person_of(token) is None
    crowd.sign_out(token)
    crowd.sign_out(None)


@pytest.mark.parametrize("token", [None, "", "x", "A" * 43, "\0", "\ud800", "x" * 10**6, "' OR 1=1 --"])
def test_a_foreign_token_is_nobodys(crowd: People, token: str | None) -> None:
    crowd.sign_in("Anna", PASSWORD)
    assert crowd.person_of(token) is None
    crowd.sign_out(token)


def test_the_store_has_neither_password_nor_token(crowd: People, store: Database) -> None:
    token = crowd.sign_in("Anna", PASSWORD)
    with store.read() as connection:
        rows = [str(row) for table in metadata.sorted_tables for row in connection.execute(select(table))]
        kept = connection.execute(select(sessions.c.token)).scalar_one()
    assert not [row for row in rows if token in row or PASSWORD in row]
    assert crowd.person_of(kept) is None, "what the store has signs nobody in"


def test_a_session_ends_when_it_is_not_used_and_after_a_week(crowd: People, clock: Any) -> None:
    token = crowd.sign_in("Bo", PASSWORD)
    clock.forward(hours=11.9)
    assert crowd.person_of(token)
    clock.forward(hours=12.1)
    assert crowd.person_of(token) is None
    token = crowd.sign_in("Bo", PASSWORD)
    for _ in range(15):
        clock.forward(hours=11)
        assert crowd.person_of(token)
    clock.forward(hours=3.1)
    assert crowd.person_of(token) is None


def test_last_seen_is_written_once_a_minute(crowd: People, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    token, writes = crowd.sign_in("Bo", PASSWORD), []
    write = Database.write
    monkeypatch.setattr(Database, "write", lambda self: writes.append(1) or write(self))
    for _ in range(130):
        clock.forward(seconds=1)
        assert crowd.person_of(token)
    assert len(writes) == 2


def test_a_full_disk_ends_no_session(crowd: People, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    token = crowd.sign_in("Bo", PASSWORD)
    clock.forward(minutes=5)

    def full(self: Database) -> None:
        raise SaveError("no room")

    monkeypatch.setattr(Database, "write", full)
    assert crowd.person_of(token)


def test_sessions_that_ended_leave_the_store(crowd: People, store: Database, clock: Any) -> None:
    for _ in range(3):
        crowd.sign_in("Bo", PASSWORD)
    clock.forward(hours=13)
    crowd.sign_in("Bo", PASSWORD)
    with store.read() as connection:
        assert len(connection.execute(select(sessions)).all()) == 1


def test_a_new_password_and_a_removal_end_all_sessions(crowd: People) -> None:
    tokens = [crowd.sign_in("Bo", PASSWORD) for _ in range(2)]
    kept = crowd.sign_in("Anna", PASSWORD)
    crowd.set_password("Bo", OTHER)
    assert [crowd.person_of(token) for token in tokens] == [None, None]
    with pytest.raises(SignInRefused, match="is wrong"):
        crowd.sign_in("Bo", PASSWORD)
    token = crowd.sign_in("Bo", OTHER)
    crowd.remove("Bo")
    assert crowd.person_of(token) is None
    assert crowd.person_of(kept) is not None
    crowd.add("Bo", PASSWORD)
    assert crowd.person_of(token) is None


def test_a_password_that_changes_during_a_sign_in_wins(crowd: People, monkeypatch: pytest.MonkeyPatch) -> None:
    right = passwords.is_right

    def changed_meanwhile(kept: str | None, password: str) -> bool:
        crowd.set_password("Bo", OTHER)
        return right(kept, password)

    monkeypatch.setattr(passwords, "is_right", changed_meanwhile)
    with pytest.raises(SignInRefused, match="is wrong"):
        crowd.sign_in("Bo", PASSWORD)


def test_a_role_counts_at_once(crowd: People) -> None:
    token = crowd.sign_in("Bo", PASSWORD)
    crowd.set_role("Bo", "admin")
    person = crowd.person_of(token)
    assert person is not None
    assert person.may("admin")


# -- the last admin ---------------------------------------------------------------------------------------------------


def test_the_last_admin_stays(crowd: People) -> None:
    for change in (lambda: crowd.remove("Anna"), lambda: crowd.set_role("Anna", "editor")):
        with pytest.raises(InputError, match="'Anna' is the last admin"):
            change()
    crowd.set_role("Anna", "admin")
    assert [person.role for person in crowd.list()] == ["admin", "viewer"]


def test_two_admins_who_remove_each_other_at_once(crowd: People) -> None:
    for turn in range(5):
        one, two = f"one {turn}", f"two {turn}"
        crowd.add(one, PASSWORD, role="admin")
        crowd.add(two, PASSWORD, role="admin")
        for name in [person.name for person in crowd.list() if person.role == "admin"]:
            if name not in (one, two):
                crowd.remove(name)
        start = threading.Barrier(2)

        def remove(name: str, by: str, start: threading.Barrier = start) -> bool:
            start.wait()
            try:
                crowd.remove(name, by=by)
            except InputError:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(remove, (one, two), (two, one))) == [False, True]
        assert len([person for person in crowd.list() if person.role == "admin"]) == 1


# -- passwords --------------------------------------------------------------------------------------------------------


def test_what_is_no_password(crowd: People) -> None:
    for wrong, message in [
        ("elevenchars", "has 11 characters, and needs at least 12"),
        ("", "has 0 characters"),
        ("x" * 2**20, "has 1,048,576 characters. At most 1,024"),
        ("half\ud800 a character", "half a character"),
    ]:
        for call in (lambda w: crowd.add("Cy", w), lambda w: crowd.set_password("Bo", w)):
            with pytest.raises(InputError, match=message) as raised:
                call(wrong)
            assert not wrong or wrong not in str(raised.value)
    crowd.add("Cy", "aaaaaaaaaaaa")


@pytest.mark.parametrize("wrong", ["", "x" * 2**20, "\ud800", PASSWORD + " ", PASSWORD.upper(), "\0" * 12])
def test_a_wrong_password_is_refused_in_the_words_of_an_unknown_name(crowd: People, wrong: str) -> None:
    messages = set()
    for name in ("Anna", "Nobody", "", "\0", "\ud800", "x" * 10**6, "An\u200bna", "<script>"):
        with pytest.raises(SignInRefused) as raised:
            crowd.sign_in(name, wrong)
        assert raised.value.wait_s is None
        messages.add(str(raised.value))
    assert messages == {"the name or the password is wrong."}


def test_a_password_is_the_same_however_its_letters_are_composed(crowd: People) -> None:
    crowd.add("Cy", "Ünïcödé Ωmega")
    assert crowd.sign_in("Cy", "U\u0308ni\u0308co\u0308de\u0301 Ωmega")


def test_an_unknown_name_takes_as_long_as_a_wrong_password(open_store: Callable[..., Database], tmp_path: Any) -> None:
    """With the real parameters: the hash is what takes the time."""
    people = People(open_store(tmp_path / "s.db"))
    people.add("Anna", PASSWORD)

    def seconds(name: str) -> float:
        began = time.process_time()
        with pytest.raises(SignInRefused, match="is wrong"):
            people.sign_in(name, OTHER)
        return time.process_time() - began

    seconds("warm-up")
    known, unknown = (median([seconds(name) for _ in range(4)]) for name in ("Anna", "Nobody"))
    assert 0.5 < known / unknown < 2
    assert unknown > 0.01


def test_passwords_are_hashed_as_rfc_9106_says_and_renewed_when_that_changes(
    crowd: People, store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    with store.read() as connection:
        before = connection.execute(select(people_table.c.password)).scalars().all()
    assert all("m=8,t=1,p=1" in kept for kept in before)
    crowd.sign_in("Bo", PASSWORD)
    with store.read() as connection:
        after = connection.execute(select(people_table.c.password).order_by(people_table.c.key)).scalars().all()
    assert "m=8,t=1,p=1" in after[0]
    assert after[1].startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    crowd.sign_in("Bo", PASSWORD)


def test_a_damaged_hash_lets_nobody_in(crowd: People, store: Database) -> None:
    with store.write() as connection:
        connection.execute(update(people_table).values(password="no hash"))
    with pytest.raises(SignInRefused):
        crowd.sign_in("Bo", "no hash")


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("<script>alert(1)</script>", "it holds '<'"),
        ('Anna"', "it holds "),
        ("An\u200bna", r"invisible character U\+200B"),
        ("An\u202ena", r"invisible character U\+202E"),
        ("An\0na", r"invisible character U\+0000"),
        ("An\nna", r"invisible character U\+000A"),
        ("An\ud800", r"invisible character U\+D800"),
        ("a/../b", "it holds '/'"),
        ("", "is no name"),
        ("   ", "is no name"),
        (" . - ", "needs a letter"),
        ("x" * 65, "1 to 64 characters"),
        ("x" * 10**6, "1 to 64 characters"),
        ("\ufdfa" * 64, "1 to 64 characters"),
        (COMMAND_LINE, "it holds '\\('"),
    ],
)
def test_what_is_no_name(crowd: People, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        crowd.add(name, PASSWORD)


@pytest.mark.parametrize("name", ["O'Brien", "anna@example.org", "阿·卜拉", "Zoë", "محمد", "1", "Anna  B.  C"])
def test_what_is_a_name(crowd: People, name: str) -> None:
    assert crowd.add(name, PASSWORD).name == " ".join(name.split())
    assert crowd.sign_in(name, PASSWORD)


def test_no_two_are_alike(crowd: People) -> None:
    for name in ("anna", "ANNA", " Anna ", "Ａｎｎａ"):
        with pytest.raises(InputError, match="there is a person called"):
            crowd.add(name, PASSWORD)
    assert key_of(checked_name("Straße")) == key_of("STRASSE")


def test_who_is_not_there_is_told_with_the_nearest(crowd: People) -> None:
    for call in (
        crowd.remove,
        lambda name: crowd.set_password(name, OTHER),
        lambda name: crowd.set_role(name, "admin"),
    ):
        with pytest.raises(InputError, match=r"nobody called 'Ana'. Did you mean 'Anna'\?"):
            call("Ana")
    with pytest.raises(ConfigError, match="role='king' is unknown"):
        crowd.add("Cy", PASSWORD, role="king")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="role='king' is unknown"):
        crowd.set_role("Bo", "king")  # type: ignore[arg-type]


# -- throttling -------------------------------------------------------------------------------------------------------


def failures_until_refused(people: People, name: str, address: str) -> tuple[int, int]:
    for attempt in range(100):
        with pytest.raises(SignInRefused) as raised:
            people.sign_in(name.format(attempt), "wrong password", address=address.format(attempt))
        if raised.value.wait_s is not None:
            assert str(raised.value) == f"too many attempts: try again in {raised.value.wait_s} s."
            return attempt, raised.value.wait_s
    return 100, 0


def test_a_name_is_throttled_from_wherever_it_is_tried(crowd: People, clock: Any) -> None:
    assert failures_until_refused(crowd, "Anna", "10.0.0.{}") == (5, 1)
    with pytest.raises(SignInRefused, match="try again in 1 s"):
        crowd.sign_in("ANNA", PASSWORD)
    assert crowd.sign_in("Bo", PASSWORD, address="10.0.0.9")
    clock.forward(seconds=1)
    assert crowd.sign_in("Anna", PASSWORD)
    assert failures_until_refused(crowd, "Anna", "10.0.1.{}") == (5, 1), "a success begins anew"


def test_an_address_is_throttled_whatever_name_it_tries(crowd: People, clock: Any) -> None:
    assert failures_until_refused(crowd, "name {}", "2001:db8::{}") == (20, 1)
    with pytest.raises(SignInRefused, match="try again"):
        crowd.sign_in("Anna", PASSWORD, address="2001:db8::1:2")
    assert crowd.sign_in("Anna", PASSWORD, address="2001:db9::1")
    clock.forward(seconds=2)
    assert crowd.sign_in("Anna", PASSWORD, address="2001:db8::1:2")


def test_waits_grow_to_a_minute_and_are_forgotten(crowd: People, clock: Any) -> None:
    waits = []
    for _ in range(14):
        _, wait = failures_until_refused(crowd, "Bo", "")
        waits.append(wait)
        clock.forward(seconds=wait)
    assert waits[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert set(waits[8:]) == {60}
    clock.forward(hours=1.1)
    assert failures_until_refused(crowd, "Bo", "")[0] == 5


def test_a_thousand_at_once_are_no_thousand_guesses(crowd: People) -> None:
    def attempt(number: int) -> int | None:
        with pytest.raises(SignInRefused) as raised:
            crowd.sign_in("Anna", f"wrong password {number}")
        return raised.value.wait_s

    with ThreadPoolExecutor(20) as pool:
        waits = list(pool.map(attempt, range(60)))
    assert waits.count(None) <= 6


def test_two_processes_count_together(
    crowd: People, store_address: str, open_store: Callable[..., Database], clock: Any
) -> None:
    other = People(open_store(store_address), now=clock)
    for people in (crowd, other, crowd, other, crowd):
        with pytest.raises(SignInRefused, match="is wrong"):
            people.sign_in("Anna", "wrong password")
    with pytest.raises(SignInRefused, match="try again in 1 s"):
        other.sign_in("Anna", PASSWORD)


def test_a_new_password_opens_the_throttle(crowd: People) -> None:
    failures_until_refused(crowd, "Bo", "")
    crowd.set_password("Bo", OTHER)
    assert crowd.sign_in("Bo", OTHER)


def test_a_success_of_ones_own_gives_no_more_guesses_at_others(crowd: People) -> None:
    address, guesses = "10.1.1.1", 0
    for number in range(40):
        try:
            crowd.sign_in(f"name {number}", "wrong password", address=address)
        except SignInRefused as error:
            if error.wait_s is not None:
                break
            guesses += 1
        crowd.sign_in("Bo", PASSWORD, address=address) if guesses < 20 else None
    assert guesses == 20


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("fe80::1%eth0", "fe80::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("unix", "unix", True),
    ],
)
def test_what_is_one_address(one: str, two: str, same: bool) -> None:
    assert (throttle.subjects_of("a", one)[1] == throttle.subjects_of("a", two)[1]) is same


# -- the audit --------------------------------------------------------------------------------------------------------


def test_what_changes_is_in_the_audit(crowd: People, store: Database) -> None:
    crowd.set_role("Bo", "editor", by="Anna")
    crowd.set_password("Bo", OTHER, by="Anna")
    crowd.sign_in("Bo", OTHER)
    crowd.remove("Bo", by="Anna")
    entries = Audit(store).entries()
    assert [(e.who, e.action, e.about, dict(e.detail)) for e in entries] == [
        ("Anna", "remove person", "Bo", {}),
        ("Bo", "sign in", "Bo", {}),
        ("Anna", "set password", "Bo", {}),
        ("Anna", "set role", "Bo", {"role": "editor", "before": "viewer"}),
        (COMMAND_LINE, "add person", "Bo", {"role": "viewer"}),
        (COMMAND_LINE, "add person", "Anna", {"role": "admin"}),
    ]
    assert PASSWORD not in json.dumps([dict(e.detail) for e in entries])
    assert [e.action for e in Audit(store).entries(most=2)] == ["remove person", "sign in"]
    assert [e.action for e in Audit(store).entries(who="Bo")] == ["sign in"]


@pytest.mark.parametrize(
    "detail",
    [{"password": "x"}, {"token": "x"}, {"text": "x"}, {"n": "x" * 121}, {"n": ["x"]}, {"n": {}}, {"n": float("nan")}],
)
def test_what_has_no_place_in_the_audit(store: Database, detail: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"no place in the audit|no number"):
        Audit(store).note("Anna", "did", "x", **detail)
    assert Audit(store).entries() == []


def test_the_audit_takes_whatever_a_name_holds(store: Database) -> None:
    Audit(store).note("\0" * 100, "\ud800", "x\u202e" * 500, name="\0\ud800<b>")
    (entry,) = Audit(store).entries()
    assert entry.about.startswith(r"x\u202e")
    assert entry.detail == {"name": "\\x00\\ud800<b>"}


def test_what_fails_leaves_no_line(crowd: People, store: Database) -> None:
    before = Audit(store).entries()
    with pytest.raises(InputError):
        crowd.remove("Anna")
    assert Audit(store).entries() == before
