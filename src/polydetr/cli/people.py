"""The verbs of people: ``people add``, ``people list``, ``people role``, ``people password``, ``people remove``."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from polydetr.cli.output import print_json, say, show
from polydetr.cli.reading import JsonFlag
from polydetr.errors import InputError, check_choice
from polydetr.web.store import DEFAULT_ADDRESS, check_packages

if TYPE_CHECKING:
    from polydetr.web.store.database import Database

StoreAddress = Annotated[str, typer.Option("--store", help="A file, or postgresql://USER@HOST/NAME.")]
PersonName = Annotated[str, typer.Argument(help="The person's name.")]
_LONGEST = 10_000


def people_add(
    name: PersonName,
    role: Annotated[
        str, typer.Option("--role", help="viewer looks, editor corrects too, admin changes models and people too.")
    ] = "viewer",
    store: StoreAddress = DEFAULT_ADDRESS,
    as_json: JsonFlag = False,
) -> None:
    """Let a person sign in. The password is asked for, or read as one line of standard input."""
    from polydetr.web.people.roles import ROLES

    check_choice("role", role, ROLES)  # before a store is made and a password asked for
    with opened(store, make=True) as database:
        from polydetr.web.people.people import People

        people = People(database)
        person = people.add(name, _password(), role=role)  # type: ignore[arg-type]
        if as_json:
            print_json({"name": person.name, "role": person.role})
        say(f"polydetr: {person.name!r} may sign in as {person.role}; the store holds the hash of the password")
        every = people.list()
        if len(every) == 1:
            say("polydetr: a service that runs without people asks nobody to sign in until polydetr serve is restarted")
        if not any(someone.role == "admin" for someone in every):
            say("polydetr: nobody is an admin yet; polydetr people add --role admin NAME makes one")


def people_list(store: StoreAddress = DEFAULT_ADDRESS, as_json: JsonFlag = False) -> None:
    """Show who may sign in."""
    with opened(store) as database:
        from polydetr.web.people.people import People

        every = People(database).list()
    if as_json:
        print_json([{"name": p.name, "role": p.role, "created": p.created.isoformat()} for p in every])
        return
    for person in every:
        show(f"{person.name}  {person.role}, added {person.created:%Y-%m-%d %H:%M} UTC")
    if not every:
        say(f"polydetr: there is nobody in {database.address.shown}; polydetr people add NAME adds one")


def people_remove(name: PersonName, store: StoreAddress = DEFAULT_ADDRESS, as_json: JsonFlag = False) -> None:
    """Let a person sign in no more. What the person did stays: see polydetr store erase."""
    with opened(store) as database:
        from polydetr.web.people.people import People

        People(database).remove(name)
    if as_json:
        print_json({"removed": name})
    say(f"polydetr: {name!r} is removed and signed out")


def people_password(name: PersonName, store: StoreAddress = DEFAULT_ADDRESS, as_json: JsonFlag = False) -> None:
    """Set a person's password; it is asked for, or read as one line of standard input."""
    with opened(store) as database:
        from polydetr.web.people.people import People

        People(database).set_password(name, _password())
    if as_json:
        print_json({"changed": name})
    say(f"polydetr: {name!r} has another password, and is signed out everywhere")


def people_role(
    name: PersonName,
    role: Annotated[str, typer.Argument(help="viewer, editor or admin.")],
    store: StoreAddress = DEFAULT_ADDRESS,
    as_json: JsonFlag = False,
) -> None:
    """Give a person another role, from the next request on."""
    with opened(store) as database:
        from polydetr.web.people.people import People

        People(database).set_role(name, role)  # type: ignore[arg-type]
    if as_json:
        print_json({"name": name, "role": role})
    say(f"polydetr: {name!r} may do what {'an' if role[0] in 'ae' else 'a'} {role} may")


@contextmanager
def opened(address: str, *, make: bool = False) -> Iterator[Database]:
    """The store at ``address``, closed afterwards."""
    check_packages()
    from polydetr.web.store.database import Database

    database = Database.open(address, make=make)
    try:
        yield database
    finally:
        database.close()


def _password() -> str:
    """Asked twice, unseen, on a terminal; else one line of standard input. Never an option: others see those.

    Raises:
        InputError: the two differ, or there is no line.
    """
    if not sys.stdin.isatty():
        line = sys.stdin.readline(_LONGEST)
        if not line:
            raise InputError("no password came in.", hint="Write it as one line to standard input.")
        return line.rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != password:
        raise InputError("the two passwords differ: nothing was changed.")
    return password
