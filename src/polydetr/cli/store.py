"""The verbs of the store: ``store backup``, ``store restore``, ``store audit``, ``store retain``, ``store erase``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from polydetr.cli.output import print_json, say, show
from polydetr.cli.people import StoreAddress, opened
from polydetr.cli.reading import JsonFlag
from polydetr.errors import quoted
from polydetr.web.store import DEFAULT_ADDRESS


def store_backup(
    file: Annotated[Path, typer.Argument(help="Where the backup is written; an older one is replaced.")],
    store: StoreAddress = DEFAULT_ADDRESS,
    as_json: JsonFlag = False,
) -> None:
    """Write all that a store holds into one file, while it is in use."""
    with opened(store) as database:
        from polydetr.web.store import backup

        rows = backup.save(database, file)
    _report({"file": file, "rows": rows}, f"{file} holds {_told(rows)}", as_json=as_json)


def store_restore(
    file: Annotated[Path, typer.Argument(help="A backup, of SQLite or of PostgreSQL.")],
    store: StoreAddress = DEFAULT_ADDRESS,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Also where the store holds something.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Make a store of a backup. Everybody is signed out."""
    with opened(store, make=True) as database:
        from polydetr.web.people.audit import COMMAND_LINE, Audit
        from polydetr.web.store import backup

        rows = backup.restore(database, file, overwrite=overwrite)
        Audit(database).note(COMMAND_LINE, "restore", file.name, rows=sum(rows.values()))
        shown = database.address.shown
    _report({"store": shown, "rows": rows}, f"{shown} holds {_told(rows)}", as_json=as_json)


def store_audit(
    last: Annotated[int, typer.Option("--last", help="How many of the newest entries.", min=1, max=1_000_000)] = 100,
    person: Annotated[str | None, typer.Option("--person", help="Only what this person did.")] = None,
    store: StoreAddress = DEFAULT_ADDRESS,
    as_json: JsonFlag = False,
) -> None:
    """Show who changed what, and when: signing in, roles, corrections, trainings; the newest comes last."""
    with opened(store) as database:
        from polydetr.web.people.audit import Audit

        entries = Audit(database).entries(most=last, who=person)[::-1]
    if as_json:
        print_json([{**asdict(entry), "at": entry.at.isoformat()} for entry in entries])
        return
    for entry in entries:
        detail = ", ".join(f"{name} {value}" for name, value in entry.detail.items())
        said = " ".join(filter(None, (entry.action, quoted(entry.about, 80) if entry.about else "", detail)))
        show(f"{entry.at:%Y-%m-%d %H:%M:%S}  {quoted(entry.who, 64)}  {said}")
    say(f"polydetr: {len(entries):,} entr{'y' if len(entries) == 1 else 'ies'}, times in UTC")


def store_retain(
    days: Annotated[int, typer.Option("--days", help="How many days are kept.", min=1, max=36_500)],
    store: StoreAddress = DEFAULT_ADDRESS,
    as_json: JsonFlag = False,
) -> None:
    """Remove what is older than so many days; people stay."""
    with opened(store) as database:
        from polydetr.web.people.audit import COMMAND_LINE, Audit
        from polydetr.web.store.retention import retain

        rows = retain(database, days)
        Audit(database).note(COMMAND_LINE, "retain", "", days=days, rows=sum(rows.values()))
    _report(
        {"days": days, "removed": rows}, f"removed what is older than {days:,} days: {_told(rows)}", as_json=as_json
    )


def store_erase(
    name: Annotated[str, typer.Option("--from", help="Whose rows: a person's name.")],
    store: StoreAddress = DEFAULT_ADDRESS,
    as_json: JsonFlag = False,
) -> None:
    """Erase a person, and all that came from that person, out of the store and its files."""
    with opened(store) as database:
        from polydetr.web.people.erasing import erase

        rows = erase(database, name)
    _report({"removed": rows}, f"erased {_told(rows)}; backups and exports made before are yours to remove",
            as_json=as_json)  # fmt: skip


def _report(document: Mapping[str, object], message: str, *, as_json: bool) -> None:
    if as_json:
        print_json(document)
    say(f"polydetr: {message}")


def _told(rows: Mapping[str, int]) -> str:
    """ "2 rows of people, 5 of audit"."""
    return ", ".join(f"{number:,} of {table}" for table, number in rows.items()) or "nothing"
