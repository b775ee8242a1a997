"""Addresses of databases: a SQLite file, or PostgreSQL; and what their errors say."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from polydetr.core.files import cannot_write, make_folder
from polydetr.core.installed import is_installed, pip_install
from polydetr.errors import ConfigError, PolydetrError, shown

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+]*)://")


@dataclass(frozen=True)
class Address:
    """url: as SQLAlchemy reads it; file: of SQLite, else None; shown: for messages, without a password."""

    url: str = field(repr=False)
    file: Path | None
    shown: str


def read_address(address: str, *, option: str = "storage", kept: str = "studies") -> Address:
    """``sqlite:///FILE`` or a file's name; ``postgresql://USER@HOST/NAME``.

    option, kept: what the user calls the address, and what stands there, for messages.

    Raises:
        ConfigError: another kind of database, no address, or a driver is missing.
    """
    scheme = _SCHEME.match(address)
    kind = scheme[1].split("+")[0].lower() if scheme else "sqlite"
    if kind not in ("sqlite", "postgresql", "postgres"):
        named = f"{kind}://..." if scheme else shown(address)  # what follows may hold a password
        raise ConfigError(
            f"{option} {named!r}: {kept} are kept in SQLite or PostgreSQL, not in {kind!r}.",
            hint="Write the name of a file, or postgresql://USER@HOST/NAME.",
        )
    if kind == "sqlite":
        file = address[len(scheme[0]) :].removeprefix("/") if scheme else address
        if not file or file == ":memory:" or "\0" in file:
            raise ConfigError(
                f"{option} {shown(address)!r} names no file.", hint="Write sqlite:///FILE, or the name of a file."
            )
        return Address(f"sqlite:///{file}", Path(file), file)
    assert scheme is not None
    return _postgresql(address[len(scheme[0]) :], option=option)


def check_place(file: Path, *, kept: str, example: str, refused: type[PolydetrError]) -> None:
    """That a database can be a file here. kept: what the user calls it; example: a name for it.

    Raises:
        SaveError: nothing can be written there. ``refused``: it is a folder.
    """
    try:
        make_folder(file.parent)
    except OSError as error:
        raise cannot_write(file.parent, error) from None
    if file.is_dir():
        raise refused(f"the {kept} {str(file)!r} is a folder.", hint=f"Name a file, for example {example}.")


def need_driver() -> None:
    """Raises ConfigError where PostgreSQL cannot be spoken to."""
    if not is_installed("psycopg"):
        raise ConfigError("PostgreSQL needs psycopg, which is not installed.", hint=f"{pip_install('postgresql')}.")


def reason_of(error: BaseException) -> str:
    """What the driver says, on one line, without the statement and its values."""
    cause = getattr(error, "orig", None) or error.__cause__ or error
    cause = getattr(cause, "orig", None) or cause
    primary = getattr(getattr(cause, "diag", None), "message_primary", None)  # PostgreSQL's detail quotes rows
    return " ".join((primary or str(cause) or type(cause).__name__).split()).rstrip(".?")[:200]


def _postgresql(rest: str, *, option: str) -> Address:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(f"postgresql+psycopg://{rest}")
    except (ArgumentError, ValueError) as error:
        raise ConfigError(
            f"the {option} is no address of PostgreSQL: {type(error).__name__}.",
            hint="Write postgresql://USER@HOST/NAME; a password may stand in ~/.pgpass.",
        ) from None
    plain = url.set(drivername="postgresql", query={k: v for k, v in url.query.items() if "pass" not in k.lower()})
    return Address(url.render_as_string(hide_password=False), None, plain.render_as_string(hide_password=True))
