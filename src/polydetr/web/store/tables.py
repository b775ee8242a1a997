"""Every table of the store, each with what backup, retention and erasure do with it.

A table says so itself (``info=kept(...)``): a new one needs its columns here, a migration beside the others in
``migrations/versions`` that makes the same columns, and nothing else. A test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_name)s", "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s", "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}  # fmt: skip
metadata = MetaData(naming_convention=_CONVENTION)


def utc_now() -> datetime:
    """The present moment, as it is kept."""
    return datetime.now(UTC)


class Moment(TypeDecorator[datetime]):
    """A time with its zone, kept in UTC: SQLite forgets zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Raises ValueError for a time without a zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without its zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


@dataclass(frozen=True)
class Keeping:
    """What is done with a table besides reading and writing it.

    backup: it goes into backups. dated: its column with the time by which old rows are removed; None: they stay.
    people: its columns with a person's name, by which rows are erased. detail: its JSON column whose texts may be a
    person's name, too. follows: its rows go with those of another table (ON DELETE CASCADE). needed_by: the columns of
    other tables ("table.column") that name its primary key; a row that none of them names goes, see ``unneeded``.
    """

    backup: bool = True
    dated: str | None = None
    people: tuple[str, ...] = ()
    detail: str | None = None
    follows: str | None = None
    needed_by: tuple[str, ...] = ()


def kept(**keeping: Any) -> dict[str, Any]:
    """``info`` of a table: the arguments are ``Keeping``'s."""
    return {"keeping": Keeping(**keeping)}


def keeping_of(table: Table) -> Keeping:
    """What ``kept`` said of it. Raises KeyError where nothing was said."""
    return table.info["keeping"]


people = Table(
    "people", metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(256), nullable=False, unique=True),  # the name without case: no two alike
    Column("name", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    Column("password", String(256), nullable=False),  # argon2id, with its parameters
    Column("created", Moment, nullable=False),
    CheckConstraint("role IN ('viewer', 'editor', 'admin')", name="role"),
    info=kept(people=("name",)),
)  # fmt: skip

sessions = Table(
    "sessions", metadata,
    Column("token", String(64), primary_key=True),  # SHA-256 of what the browser has
    Column("person", Integer, ForeignKey("people.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("created", Moment, nullable=False),
    Column("seen", Moment, nullable=False),
    info=kept(backup=False, dated="seen", follows="people"),
)  # fmt: skip

throttle = Table(
    "throttle", metadata,
    Column("subject", String(80), primary_key=True),  # SHA-256 of a name or of an address
    Column("failures", Integer, nullable=False),
    Column("last", Moment, nullable=False),
    info=kept(backup=False, dated="last"),
)  # fmt: skip

audit = Table(
    "audit", metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Moment, nullable=False, index=True),
    Column("who", String(64), nullable=False),
    Column("action", String(64), nullable=False),
    Column("about", String(256), nullable=False),
    Column("detail", JSON, nullable=False),
    Index("ix_audit_who", "who"),
    info=kept(dated="at", people=("who", "about"), detail="detail"),
)  # fmt: skip

# key: SHA-256 of the inputs; row: JSON, with the SHA-256 of an image in its place.
corrected_rows = Table(
    "corrected_rows", metadata,
    Column("key", String(64), primary_key=True),
    Column("row", Text, nullable=False),
    info=kept(needed_by=("corrections.row_key",)),
)  # fmt: skip

corrected_images = Table(
    "corrected_images", metadata,
    Column("sha256", String(64), primary_key=True),
    Column("content", LargeBinary, nullable=False),
    info=kept(needed_by=("corrected_row_images.sha256",)),
)  # fmt: skip

corrected_row_images = Table(
    "corrected_row_images", metadata,
    Column("row_key", String(64), ForeignKey("corrected_rows.key", ondelete="CASCADE"), primary_key=True),
    Column("sha256", String(64), ForeignKey("corrected_images.sha256"), primary_key=True, index=True),
    info=kept(follows="corrected_rows"),
)  # fmt: skip

# id: made by whoever saves it; form, answer, value: JSON; undoes: the id of the revision that this one takes back.
corrections = Table(
    "corrections", metadata,
    Column("id", String(64), primary_key=True),
    Column("model", String(256), nullable=False),
    Column("version", String(256), nullable=False),
    Column("row_key", String(64), ForeignKey("corrected_rows.key"), nullable=False, index=True),
    Column("target", String(256), nullable=False),
    Column("form", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("person", String(64), nullable=False, index=True),
    Column("at", Moment, nullable=False, index=True),
    Column("revision", Integer, nullable=False),
    Column("undoes", String(64), unique=True),
    UniqueConstraint("model", "row_key", "target", "revision"),
    CheckConstraint("kind IN ('confirmed', 'repaired', 'withdrawn')", name="kind"),
    info=kept(dated="at", people=("person",)),
)  # fmt: skip
"""The newest revision of a model's row and target is what counts; see ``studio.corrections``."""
