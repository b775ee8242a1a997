"""Sign-ins that fail are slowed down, by name and by address, in the store: all processes count together.

An attempt is counted before its password is looked at, so that a thousand at once are not a thousand guesses. The waits
are short (a minute at most): whoever guesses gets a guess a minute, and cannot lock a person out for long.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select, update

from polydetr.web.people.names import key_of
from polydetr.web.store.tables import throttle

_FORGOTTEN = timedelta(hours=1)
_LONGEST_WAIT = 60.0


@dataclass(frozen=True)
class Subject:
    """key: what is counted, hashed: people type passwords where their name belongs. free: failures without a wait."""

    key: str
    free: int


def subjects_of(name: str, address: str) -> tuple[Subject, ...]:
    """What an attempt counts for. address: of the browser; empty where there is none."""
    named = Subject(name_subject(name), 5)
    return (named, Subject(_hashed("address", _network(address)), 20)) if address else (named,)


def name_subject(name: str) -> str:
    """How the throttle calls a person."""
    return _hashed("name", key_of(name))


def wait_of(failures: int, last: datetime, *, free: int, now: datetime) -> float:
    """Seconds until the next attempt is looked at: 1 after the free ones, then twice as long with each."""
    if failures < free:
        return 0.0
    wait = min(2.0 ** min(failures - free, 16), _LONGEST_WAIT)
    return min(max(0.0, wait - (now - last).total_seconds()), wait)


def begun(connection: Connection, subjects: tuple[Subject, ...], *, now: datetime) -> int:
    """Counts an attempt as failed until it succeeds. Whole seconds to wait, where it is too early: then it does not
    count.
    """
    connection.execute(delete(throttle).where(throttle.c.last < now - _FORGOTTEN))
    query = select(throttle).where(throttle.c.subject.in_([subject.key for subject in subjects]))
    rows = {row.subject: row for row in connection.execute(query)}
    waits = [
        wait_of(row.failures, row.last, free=subject.free, now=now)
        for subject in subjects
        if (row := rows.get(subject.key)) is not None
    ]
    if any(waits):
        return math.ceil(max(waits))
    for subject in subjects:
        if subject.key in rows:
            changed = {"failures": throttle.c.failures + 1, "last": now}
            connection.execute(update(throttle).where(throttle.c.subject == subject.key).values(changed))
        else:
            connection.execute(insert(throttle).values(subject=subject.key, failures=1, last=now))
    return 0


def succeeded(connection: Connection, subjects: tuple[Subject, ...]) -> None:
    """The name begins anew; the address only loses this attempt: with one password of one's own, nobody gets more
    guesses at others'.
    """
    forget(connection, subjects[0].key)
    for subject in subjects[1:]:
        one_less = update(throttle).where(throttle.c.subject == subject.key, throttle.c.failures > 0)
        connection.execute(one_less.values(failures=throttle.c.failures - 1))


def forget(connection: Connection, subject: str) -> None:
    """No failures are known of it."""
    connection.execute(delete(throttle).where(throttle.c.subject == subject))


def _hashed(kind: str, value: str) -> str:
    return f"{kind} {hashlib.sha256(value.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _network(address: str) -> str:
    """Of IPv6 the part that one household has: the rest is anybody's to choose."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
