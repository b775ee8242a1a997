"""The audit: who changed what, and when. It holds names and figures; passwords, tokens and users' texts never."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from polydetr.errors import shown
from polydetr.web.store.database import Database
from polydetr.web.store.tables import audit, utc_now

COMMAND_LINE = "(command line)"
"""Who it was, where nobody was signed in. No person can have this name."""
_LONGEST = 120
_NEVER = frozenset({"password", "token", "text", "hash", "secret", "cookie"})


@dataclass(frozen=True)
class Entry:
    """id: grows with time. who: a person's name, or ``COMMAND_LINE``. about: what was changed, by its name."""

    id: int
    at: datetime
    who: str
    action: str
    about: str
    detail: Mapping[str, Any]


class Audit:
    """The audit of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, who: str, action: str, about: str, **detail: Any) -> None:
        """One line. Where something else is written with it, use ``note_in`` with the same connection instead.

        Raises:
            ValueError: see ``note_in``. StoreUnavailable, SaveError: see ``Database.write``.
        """
        with self._database.write() as connection:
            note_in(connection, who, action, about, **detail)

    def entries(self, *, most: int = 100, who: str | None = None) -> Sequence[Entry]:
        """The latest first. who: of this person alone.

        Raises:
            StoreUnavailable: see ``Database.read``.
        """
        query = select(audit).order_by(audit.c.id.desc()).limit(most)
        if who is not None:
            query = query.where(audit.c.who == who)
        with self._database.read() as connection:
            return [Entry(**row) for row in connection.execute(query).mappings()]


def note_in(connection: Connection, who: str, action: str, about: str, **detail: Any) -> None:
    """One line of the audit, in the transaction of what it tells of: both are kept, or neither.

    detail: numbers, booleans and short names.

    Raises:
        ValueError: a detail may be a password, a token or a user's text.
    """
    for key, value in detail.items():
        if key in _NEVER or not (value is None or isinstance(value, (bool, int, float, str))):
            raise ValueError(f"{key} has no place in the audit")
        if isinstance(value, str) and len(value) > _LONGEST:
            raise ValueError(f"{key} is as long as a text, which has no place in the audit")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{key} is no number")
    safe = {key: shown(value, _LONGEST) if isinstance(value, str) else value for key, value in detail.items()}
    connection.execute(
        audit.insert().values(
            at=utc_now(), who=shown(who, 64), action=shown(action, 64), about=shown(about, 256), detail=safe
        )
    )
