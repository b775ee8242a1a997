"""Rows that are older than so many days leave the store; people stay."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete

from polydetr.errors import InputError
from polydetr.web.store.database import Database
from polydetr.web.store.tables import keeping_of, metadata, utc_now
from polydetr.web.store.unneeded import remove_unneeded

_MOST_DAYS = 36_500


def retain(database: Database, days: int, *, now: datetime | None = None) -> dict[str, int]:
    """Removes what is older than ``days``. Returns how many rows left each table that has dated rows.

    Raises:
        InputError: not 1 to 36,500 days. StoreUnavailable, SaveError: see ``Database``.
    """
    if not 1 <= days <= _MOST_DAYS:
        raise InputError(f"{days} is no number of days to keep.", hint=f"1 to {_MOST_DAYS:,}.")
    limit = (now or utc_now()) - timedelta(days=days)
    removed = {}
    with database.write() as connection:
        for table in reversed(metadata.sorted_tables):
            dated = keeping_of(table).dated
            if dated is not None:
                removed[table.name] = connection.execute(delete(table).where(table.c[dated] < limit)).rowcount
        return removed | remove_unneeded(connection)
