"""What nothing needs any more: rows that only stood there for those of another table (``Keeping.needed_by``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from sqlalchemy import Connection, select

from polydetr.web.store.tables import keeping_of, metadata


def remove_unneeded(connection: Connection) -> dict[str, int]:
    """Removes them, in the transaction of ``connection``; table → how many, where there were any.

    To be called after rows were removed by their age, or by whose they are.
    """
    found: Counter[str] = Counter()
    while gone := {name: count for name, count in _pass(connection) if count}:  # a row that goes may be the last need
        found.update(gone)
    return dict(found)


def _pass(connection: Connection) -> Iterator[tuple[str, int]]:
    for table in metadata.sorted_tables:
        places = [place.partition(".") for place in keeping_of(table).needed_by]
        if places:
            (key,) = table.primary_key.columns
            unnamed = (key.not_in(select(metadata.tables[name].c[column])) for name, _, column in places)
            yield table.name, connection.execute(table.delete().where(*unnamed)).rowcount
