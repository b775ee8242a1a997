"""Open stores of a test's own, closed after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from polydetr.web.people import passwords
from polydetr.web.people.people import People
from polydetr.web.store.database import Database

PASSWORD = "correct horse battery"


@pytest.fixture
def open_store() -> Iterator[Callable[[str | Path], Database]]:
    opened: list[Database] = []

    def open_store(address: str | Path) -> Database:
        opened.append(Database.open(address))
        return opened[-1]

    yield open_store
    for database in opened:
        database.close()


@pytest.fixture
def store(store_address: str, open_store: Callable[[str | Path], Database]) -> Database:
    """An empty one, once on each kind of database."""
    return open_store(store_address)


class Clock:
    """A clock that a test moves on."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **times: float) -> None:
        self.now += timedelta(**times)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2 with parameters that cost nothing: what they are is tested by itself."""
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    nobodys = quick.hash("nobody")
    monkeypatch.setattr(passwords, "_hasher", lambda: quick)
    monkeypatch.setattr(passwords, "_nobodys", lambda: nobodys)


@pytest.fixture
def crowd(store: Database, clock: Clock, quick_hashes: None) -> People:
    """People with an admin (Anna) and a viewer (Bo)."""
    people = People(store, now=clock)
    people.add("Anna", PASSWORD, role="admin")
    people.add("Bo", PASSWORD)
    return people
