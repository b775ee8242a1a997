"""What the page Correct asks the store beside single corrections: figures and names, without loading any row."""

from __future__ import annotations

from sqlalchemy import func, select

from polydetr.web.store.database import Database
from polydetr.web.store.tables import corrections


def corrected_targets(database: Database, model: str) -> dict[str, set[str]]:
    """Key of a row → the targets of which a correction counts now. Blocks; raises StoreUnavailable."""
    table = corrections.c
    newest = (
        select(table.row_key, table.target, func.max(table.revision).label("revision"))
        .where(table.model == model)
        .group_by(table.row_key, table.target)
        .subquery()
    )
    same = (table.row_key == newest.c.row_key) & (table.target == newest.c.target)
    query = (
        select(table.row_key, table.target)
        .join(newest, same & (table.revision == newest.c.revision) & (table.model == model))
        .where(table.kind != "withdrawn")
    )
    found: dict[str, set[str]] = {}
    with database.read() as connection:
        for key, target in connection.execute(query):
            found.setdefault(key, set()).add(target)
    return found


def people_of(database: Database, model: str) -> list[str]:
    """Who has corrected answers of the model, by name. Blocks; raises StoreUnavailable."""
    query = select(corrections.c.person).where(corrections.c.model == model).distinct()
    with database.read() as connection:
        return sorted(connection.execute(query).scalars())
