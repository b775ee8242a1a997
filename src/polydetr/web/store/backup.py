"""A copy of a store in one file, and a store made of it again: the same file for SQLite and for PostgreSQL.

The file is gzip over JSON lines: a head (format, version of the tables, their columns), a line per row, and a tail with
the number of rows per table and the SHA-256 of all lines before it. It holds one state of the store, whoever writes
meanwhile. Sessions and throttled sign-ins stay out of it: who signed out yesterday is not signed in by a restore.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Float,
    Integer,
    LargeBinary,
    String,
    column,
    func,
    inspect,
    select,
    table,
    text,
)  # fmt: skip
from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError
from sqlalchemy.types import TypeEngine

from polydetr.core.databases import reason_of
from polydetr.core.files import is_stream, saved
from polydetr.core.installed import pip_upgrade
from polydetr.errors import DataFileError, OutputError, SaveError, quoted
from polydetr.web.store import schema
from polydetr.web.store.database import Database
from polydetr.web.store.tables import Moment, keeping_of, metadata, utc_now

FORMAT = 1
_AT_ONCE = 500
_LONGEST_LINE = 1 << 30
_TYPES: Mapping[str, type[TypeEngine[Any]]] = {
    "moment": Moment, "json": JSON, "boolean": Boolean, "integer": Integer, "number": Float, "bytes": LargeBinary,
    "text": String,
}  # fmt: skip
"""How columns are called in the file, the narrower first."""


_NO_BACKUP = (
    zlib.error, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError,
    IntegrityError, DataError, ProgrammingError,
)  # fmt: skip
"""What reading another file, or a damaged one, may raise; also the database, of rows that it does not take."""
_PYTHON: Mapping[str, type | tuple[type, ...]] = {"text": str, "integer": int, "number": (int, float), "boolean": bool}


def save(database: Database, file: str | Path) -> dict[str, int]:
    """Writes ``file``, whole or not at all. Returns the number of rows of each table.

    Raises:
        OutputError: another file is at this place. SaveError: it cannot be written. StoreUnavailable: see ``Database``.
    """
    path = Path(file)
    _check_place(path)
    tables = [found for found in metadata.sorted_tables if keeping_of(found).backup]
    head = {
        "polydetr_store": FORMAT, "version": schema.newest(), "created": utc_now().isoformat(timespec="seconds"),
        "tables": {found.name: {c.name: kind_of(c) for c in found.columns} for found in tables},
    }  # fmt: skip
    rows = {found.name: 0 for found in tables}
    with database.read() as connection, saved(path) as raw:
        if not is_stream(path):
            os.chmod(raw.name, 0o600)  # hashes of passwords stand in it
        with gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as packed:
            lines = _Lines(packed)
            lines.write(head)
            for found in tables:
                kinds = [kind_of(c) for c in found.columns]
                query = select(found).order_by(*found.primary_key.columns).execution_options(yield_per=_AT_ONCE)
                for row in connection.execute(query):
                    lines.write([found.name, [_plain(value, kind) for value, kind in zip(row, kinds, strict=True)]])
                    rows[found.name] += 1
            lines.write({"rows": rows, "sha256": lines.digest.hexdigest()})
    return rows


def restore(database: Database, file: str | Path, *, overwrite: bool = False) -> dict[str, int]:
    """Makes the store what it was when ``file`` was written, and brings it up to date; all sessions end. Returns the
    number of rows of each table. Everything happens in one transaction: of a damaged file nothing is kept.

    overwrite: also where the store holds something, which is then gone.

    Raises:
        DataFileError: it is no backup, damaged, not whole, or a newer program's. OutputError: the store holds
            something. StoreUnavailable, SaveError: see ``Database``.
    """
    path = Path(file)
    with database.write() as connection:
        if not overwrite and any(_count(connection, name) for name in metadata.tables):
            raise OutputError(
                f"the store {database.address.shown} holds something.", hint="Replace it: --overwrite; or name another."
            )
        try:
            rows = _restored(connection, path)
        except _NO_BACKUP as error:
            if isinstance(error, DataFileError):
                raise
            reason = error.strerror if isinstance(error, OSError) and error.strerror else reason_of(error)
            raise DataFileError(
                f"{str(path)!r} is no backup of a store, or damaged ({reason:.120}): nothing was changed.",
                hint="polydetr store backup FILE makes one.",
            ) from None
    return rows


def kind_of(found: Column[Any]) -> str:
    """How the type of a column is called in the file. Raises TypeError for one that it does not know."""
    for kind, type_ in _TYPES.items():
        if isinstance(found.type, type_):
            return kind
    raise TypeError(f"{found} is of a type that backups do not know")


# -- inside -----------------------------------------------------------------------------------------------------------


class _Lines:
    """JSON lines, and the SHA-256 of those written. Raises SaveError for one that would not be read again."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def write(self, value: Any) -> None:
        line = json.dumps(value, separators=(",", ":")).encode() + b"\n"
        if len(line) > _LONGEST_LINE:
            raise SaveError(
                f"a row of {value[0]} takes {len(line):,} bytes, of which no backup could be restored: a line of one "
                f"holds {_LONGEST_LINE:,}.",
                hint="polydetr store retain removes old rows, polydetr store erase those of one person.",
            )
        self._file.write(line)
        self.digest.update(line)


def _restored(connection: Connection, path: Path) -> dict[str, int]:
    """The order of the steps is the trick: the tables become those of the backup's version first, then today's."""
    with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) as packed, io.BufferedReader(packed) as lines:
        digest = hashlib.sha256()
        head = _head(_line(lines, digest), path)
        metadata.drop_all(connection)
        connection.execute(text(f"DROP TABLE {schema.VERSION_TABLE}"))
        schema.upgrade(connection, head["version"])
        tables = {name: _table(connection, name, columns) for name, columns in head["tables"].items()}
        rows = dict.fromkeys(tables, 0)
        content = _rows(lines, digest, head["tables"], rows)
        while batch := list(islice(content, _AT_ONCE)):
            _insert(connection, tables, batch)
    schema.upgrade(connection)
    if connection.dialect.name == "postgresql":
        _set_sequences(connection)
    return rows


def _head(line: bytes, path: Path) -> Any:
    """Raises DataFileError for a newer program's, ValueError and its like for what is no head."""
    head = json.loads(line)
    if head["polydetr_store"] > FORMAT or head["version"] not in schema.versions():
        raise DataFileError(
            f"{str(path)!r} was written by a newer polydetr (format {head['polydetr_store']}, tables "
            f"{quoted(head['version'])}): nothing was changed.",
            hint=f"{pip_upgrade()}.",
        )
    return head


def _rows(
    lines: io.BufferedReader[Any], digest: Any, tables: Mapping[str, Mapping[str, str]], rows: dict[str, int]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row with its table's name. Raises ValueError at the end of a file that is not whole."""
    while True:
        before = digest.hexdigest()
        found = json.loads(_line(lines, digest))
        if isinstance(found, dict):
            if found != {"rows": rows, "sha256": before} or lines.read(1):
                raise ValueError("its checksum is another")
            return
        name, values = found
        columns = tables[name]
        rows[name] += 1
        yield name, {key: _value(v, kind) for (key, kind), v in zip(columns.items(), values, strict=True)}


def _line(lines: io.BufferedReader[Any], digest: Any) -> bytes:
    line = lines.readline(_LONGEST_LINE)
    if not line.endswith(b"\n"):
        raise ValueError("it ends in the middle")
    digest.update(line)
    return line


def _table(connection: Connection, name: str, columns: Mapping[str, str]) -> Any:
    """A table as the backup describes it. Raises ValueError where the version that it names has another."""
    known = {c["name"] for c in inspect(connection).get_columns(name)} if inspect(connection).has_table(name) else set()
    if known != set(columns):
        raise ValueError(f"its table {quoted(name)} has other columns")
    return table(name, *(column(key, _TYPES[kind]()) for key, kind in columns.items()))


def _insert(connection: Connection, tables: Mapping[str, Any], batch: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """In the order of the tables in the batch, which is the file's: people before what refers to them."""
    for name in dict.fromkeys(name for name, _ in batch):
        connection.execute(tables[name].insert(), [row for of, row in batch if of == name])


def _set_sequences(connection: Connection) -> None:
    """PostgreSQL counts on after the largest id; SQLite does so by itself."""
    for found in metadata.sorted_tables:
        key = found.autoincrement_column
        if key is not None:
            connection.execute(
                text(
                    f"SELECT setval(pg_get_serial_sequence('{found.name}', '{key.name}'), "
                    f"coalesce(max({key.name}), 1), max({key.name}) IS NOT NULL) FROM {found.name}"
                )
            )


def _count(connection: Connection, name: str) -> int:
    return connection.execute(select(func.count()).select_from(metadata.tables[name])).scalar_one()


def _check_place(path: Path) -> None:
    """Raises OutputError: only a backup is replaced by another."""
    if not path.is_file():
        return
    try:
        with gzip.open(path) as old:
            head = json.loads(old.readline(_LONGEST_LINE))
        if "polydetr_store" in head:
            return
    except (OSError, EOFError, zlib.error, ValueError, TypeError):
        pass
    raise OutputError(f"{str(path)!r} is another file, no backup.", hint="Name another place.")


def _plain(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind == "moment":
        return value.isoformat()
    return base64.b64encode(value).decode() if kind == "bytes" else value


def _value(plain: Any, kind: str) -> Any:
    """Raises ValueError, TypeError."""
    if plain is None:
        return None
    if kind == "moment":
        return datetime.fromisoformat(plain).astimezone(UTC)
    if kind in _PYTHON and not isinstance(plain, _PYTHON[kind]):
        raise ValueError(f"{quoted(plain, 40)} is no {kind}")
    return base64.b64decode(plain, validate=True) if kind == "bytes" else plain
