"""Erasing what came from a person: rows, free pages, the write-ahead log. Not what lies elsewhere: backups, exports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Table, delete, func, select

from polydetr.errors import InputError, did_you_mean, quoted
from polydetr.web.people import throttle
from polydetr.web.people.audit import COMMAND_LINE, note_in
from polydetr.web.people.names import key_of
from polydetr.web.people.people import check_not_last
from polydetr.web.store.database import Database
from polydetr.web.store.tables import keeping_of, metadata, people
from polydetr.web.store.unneeded import remove_unneeded

_AT_ONCE = 500


def erase(database: Database, name: str, *, by: str = COMMAND_LINE) -> dict[str, int]:
    """Removes a person, the person's sessions, and every row that came from the person or tells of the person, also of
    one who was removed before. Afterwards the name is in no file of the store. Returns how many rows left each table.

    Raises:
        InputError: nothing came from anybody of this name, or it is the last admin. StoreUnavailable: also where others
            kept the old state open for a minute: it is erased, and the call made again removes what is left in files.
    """
    wanted = key_of(name)
    with database.write() as connection:
        row = connection.execute(select(people).where(people.c.key == wanted)).first()
        if row is not None:
            check_not_last(connection, row)
        before = {table.name: _count(connection, table) for table in metadata.sorted_tables}
        for table in reversed(metadata.sorted_tables):
            _erase(connection, table, wanted)
        remove_unneeded(connection)
        throttle.forget(connection, throttle.name_subject(name))
        removed = {n: before[n] - _count(connection, metadata.tables[n]) for n in before}
        if not any(removed.values()):
            raise InputError(f"nothing came from {quoted(name)}.", hint=_hint(connection, name))
        note_in(
            connection, by if key_of(by) != wanted else COMMAND_LINE, "erase person", "", rows=sum(removed.values())
        )
    database.compact()
    return {table: number for table, number in removed.items() if number}


def _erase(connection: Connection, table: Table, wanted: str) -> None:
    keeping = keeping_of(table)
    for column in keeping.people:
        names = [n for n in connection.execute(select(table.c[column]).distinct()).scalars() if n is not None]
        for name in names:
            if key_of(name) == wanted:
                connection.execute(delete(table).where(table.c[column] == name))
    if keeping.detail is not None:
        (key,) = table.primary_key.columns
        query = select(key, table.c[keeping.detail]).execution_options(yield_per=_AT_ONCE)
        found = [
            id_ for id_, detail in connection.execute(query) if _holds(detail, lambda text: key_of(text) == wanted)
        ]
        for start in range(0, len(found), _AT_ONCE):
            connection.execute(delete(table).where(key.in_(found[start : start + _AT_ONCE])))


def _holds(value: Any, matches: Callable[[str], bool]) -> bool:
    """Whether a text anywhere in a JSON value matches."""
    if isinstance(value, str):
        return matches(value)
    if isinstance(value, dict):
        return any(matches(key) or _holds(inner, matches) for key, inner in value.items())
    return isinstance(value, list) and any(_holds(inner, matches) for inner in value)


def _count(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _hint(connection: Connection, name: str) -> str:
    return did_you_mean(name, connection.execute(select(people.c.name)).scalars().all())
