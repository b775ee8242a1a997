"""People of the pages: who they are, what each may do, and who is signed in.

A session is a random token of 256 bits in the browser, of which the store has the SHA-256: whoever reads the store
cannot sign in with what stands there. Roles are read with each request, so that a change counts at once.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

from sqlalchemy import Connection, delete, func, insert, select, update

from polydetr.errors import InputError, PolydetrError, SaveError, StoreUnavailable, check_choice, did_you_mean, quoted
from polydetr.web.people import passwords, throttle
from polydetr.web.people.audit import COMMAND_LINE, note_in
from polydetr.web.people.names import checked_name, key_of
from polydetr.web.store.database import Database
from polydetr.web.store.tables import people, sessions, utc_now

Role = Literal["viewer", "editor", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each may do what those before it may, and more: look; correct; change models, trainings and people."""
IDLE, AT_MOST = timedelta(hours=12), timedelta(days=7)
"""A session ends when it is not used for so long, and after so long in any case."""
_SEEN_EVERY = timedelta(minutes=1)
_WRONG = "the name or the password is wrong."


@dataclass(frozen=True)
class Person:
    """Somebody who may sign in. name: as it is shown."""

    id: int
    name: str
    role: Role
    created: datetime

    def may(self, role: Role) -> bool:
        """Whether this person has the role, or a higher one."""
        return ROLES.index(self.role) >= ROLES.index(role)


class SignInRefused(PolydetrError):
    """A sign-in that is not let in. wait_s: seconds until another is looked at; None: name or password were wrong."""

    exit_code = 2

    def __init__(self, message: str, *, wait_s: int | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class People:
    """The people of a store, and their sessions.

    Every method raises StoreUnavailable and SaveError, see ``Database``; all block, for which see there.
    """

    def __init__(self, database: Database, *, now: Callable[[], datetime] = utc_now) -> None:
        self._database, self._now = database, now

    def any(self) -> bool:
        """Whether there is anybody who could sign in."""
        with self._database.read() as connection:
            return connection.execute(select(people.c.id).limit(1)).first() is not None

    def list(self) -> Sequence[Person]:
        """Everybody, by name."""
        with self._database.read() as connection:
            return [_person(row) for row in connection.execute(select(people).order_by(people.c.key))]

    def add(self, name: str, password: str, *, role: Role = "viewer", by: str = COMMAND_LINE) -> Person:
        """A new person. by: who adds, for the audit.

        Raises:
            InputError: the name is no name or is taken, or the password is short. ConfigError: the role is unknown.
        """
        check_choice("role", role, ROLES)
        name, kept = checked_name(name), passwords.hashed(password)
        with self._database.write() as connection:
            if _row(connection, name) is not None:
                raise InputError(f"there is a person called {quoted(name)} already.", hint="Choose another name.")
            values = {"key": key_of(name), "name": name, "role": role, "password": kept, "created": self._now()}
            connection.execute(insert(people).values(values))
            note_in(connection, by, "add person", name, role=role)
            return _person(_row(connection, name))

    def set_password(self, name: str, password: str, *, by: str = COMMAND_LINE) -> None:
        """Another password; all sessions of the person end.

        Raises:
            InputError: nobody has this name, or the password is short.
        """
        kept = passwords.hashed(password)
        with self._database.write() as connection:
            row = _known(connection, name)
            connection.execute(update(people).where(people.c.id == row.id).values(password=kept))
            connection.execute(delete(sessions).where(sessions.c.person == row.id))
            throttle.forget(connection, throttle.name_subject(row.name))
            note_in(connection, by, "set password", row.name)

    def set_role(self, name: str, role: Role, *, by: str = COMMAND_LINE) -> None:
        """Another role, from the person's next request on.

        Raises:
            InputError: nobody has this name, or it is the last admin's. ConfigError: the role is unknown.
        """
        check_choice("role", role, ROLES)
        with self._database.write() as connection:
            row = _known(connection, name)
            if role != "admin":
                check_not_last(connection, row)
            connection.execute(update(people).where(people.c.id == row.id).values(role=role))
            note_in(connection, by, "set role", row.name, role=role, before=row.role)

    def remove(self, name: str, *, by: str = COMMAND_LINE) -> None:
        """The person can sign in no more; what the person did stays (see ``erasing``).

        Raises:
            InputError: nobody has this name, or it is the last admin's: then anybody could come in, or nobody.
        """
        with self._database.write() as connection:
            row = _known(connection, name)
            check_not_last(connection, row)
            connection.execute(delete(sessions).where(sessions.c.person == row.id))
            connection.execute(delete(people).where(people.c.id == row.id))
            note_in(connection, by, "remove person", row.name)

    def sign_in(self, name: str, password: str, *, address: str = "") -> str:
        """The token of a new session. address: of the browser, by which failures are counted, too.

        Raises:
            SignInRefused: name or password are wrong, in the same words and after the same time; or there were too many
                attempts, and this one was not looked at.
        """
        subjects = throttle.subjects_of(name, address)
        with self._database.write() as connection:
            wait = throttle.begun(connection, subjects, now=self._now())
        if wait:
            raise SignInRefused(f"too many attempts: try again in {wait} s.", wait_s=wait)
        with self._database.read() as connection:
            row = _row(connection, name)
        if not passwords.is_right(row.password if row else None, password) or row is None:
            raise SignInRefused(_WRONG)
        renewed = passwords.hashed(password) if passwords.is_outdated(row.password) else row.password
        return self._begun(row, renewed, subjects)

    def person_of(self, token: str | None) -> Person | None:
        """Whose session this is, with the role that the person has now; None where it is nobody's, or has ended."""
        if not token:
            return None
        digest, now = _digest(token), self._now()
        query = select(people, sessions.c.seen).join(sessions).where(
            sessions.c.token == digest, sessions.c.seen > now - IDLE, sessions.c.created > now - AT_MOST
        )  # fmt: skip
        with self._database.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        if now - row.seen > _SEEN_EVERY:
            with (
                suppress(SaveError, StoreUnavailable),
                self._database.write() as connection,
            ):  # a full disk ends no session
                connection.execute(update(sessions).where(sessions.c.token == digest).values(seen=now))
        return _person(row)

    def sign_out(self, token: str | None) -> None:
        """Ends the session, where there is one."""
        if not token:
            return
        with self._database.write() as connection:
            connection.execute(delete(sessions).where(sessions.c.token == _digest(token)))

    # -- inside -------------------------------------------------------------------------------------------------------

    def _begun(self, row: Any, renewed: str, subjects: tuple[throttle.Subject, ...]) -> str:
        """A session, unless the person was removed or given another password while this one was computed."""
        token, now = secrets.token_urlsafe(32), self._now()
        with self._database.write() as connection:
            unchanged = update(people).where(people.c.id == row.id, people.c.password == row.password)
            if connection.execute(unchanged.values(password=renewed)).rowcount != 1:
                raise SignInRefused(_WRONG)
            throttle.succeeded(connection, subjects)
            ended = (sessions.c.seen <= now - IDLE) | (sessions.c.created <= now - AT_MOST)
            connection.execute(delete(sessions).where(ended))
            connection.execute(insert(sessions).values(token=_digest(token), person=row.id, created=now, seen=now))
            note_in(connection, row.name, "sign in", row.name)
        return token


def _row(connection: Connection, name: str) -> Any:
    return connection.execute(select(people).where(people.c.key == key_of(name))).first()


def _known(connection: Connection, name: str) -> Any:
    row = _row(connection, name)
    if row is None:
        names = connection.execute(select(people.c.name)).scalars().all()
        raise InputError(f"there is nobody called {quoted(name)}.", hint=did_you_mean(name, names))
    return row


def check_not_last(connection: Connection, row: Any) -> None:
    """Raises InputError where the person of this row is the only admin: nobody could change anything any more."""
    admins = select(func.count()).select_from(people).where(people.c.role == "admin")
    if row.role == "admin" and connection.execute(admins).scalar_one() == 1:
        raise InputError(
            f"{quoted(row.name)} is the last admin, without whom nobody could add people.",
            hint="Make another person an admin first.",
        )


def _person(row: Any) -> Person:
    return Person(row.id, row.name, row.role, row.created)


def _digest(token: str) -> str:
    return hashlib.sha256(token[:200].encode("utf-8", "surrogatepass")).hexdigest()
