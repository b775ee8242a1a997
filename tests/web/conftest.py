"""Open stores of a test's own, closed after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from polydetr.web.store.database import Database


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
