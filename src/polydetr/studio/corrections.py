"""Corrections as the store keeps them: who said what is right for which row, and when; a history that only grows.

Per model, row and target there are revisions, counted from 1; the newest is what counts. Whoever saves names the
revision that he or she saw: where somebody else saved in between, that is a ``Conflict``, and nothing is written. Each
revision has an id that its maker chose, so that saving once more after a break neither loses nor doubles it. Undoing
writes the state before as a new revision, and can be undone itself.
"""

from __future__ import annotations

import builtins
import json
import re
import uuid
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select, and_, func, select
from sqlalchemy.engine import Row as Line

from polydetr.core.files import json_text
from polydetr.errors import InputError, did_you_mean, quoted, shown
from polydetr.serving.contract import ModelInfo
from polydetr.serving.rows import Columns
from polydetr.studio.correction import Conflict, Correction, Kind
from polydetr.studio.correction_export import Exported, export_corrections
from polydetr.studio.correction_rows import PackedRow, inputs_of, packed, unpacked
from polydetr.studio.correction_values import TargetForm, check, same_value
from polydetr.web.people.audit import note_in
from polydetr.web.store.database import Database
from polydetr.web.store.tables import corrected_images, corrected_row_images, corrected_rows, corrections

_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_LONGEST_NAME = 256
_PERSON = 64


@dataclass(frozen=True)
class Saved:
    """messages: what was done to the value (fitted to words, cut at the image's edges), and labels that are new."""

    correction: Correction
    messages: tuple[str, ...] = ()


class Corrections:
    """The corrections in a store. Calls block, as the store's do; all may be made from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- writing ------------------------------------------------------------------------------------------------------

    def save(
        self, *, id: str, info: ModelInfo, row: Any, target: str, value: Any, person: str,
        answer: Mapping[str, Any] | None = None, expected_revision: int = 0, new_label: bool = False,
    ) -> Saved:  # fmt: skip
        """Keeps what is right for a row: confirmed where the model answered just that, else repaired.

        Args:
            id: made for this correction by who saves it, 8 to 64 letters, digits, - or _ (a UUID); saving with it again
                gives what was saved.
            row: as the model was asked with it. answer: what it answered of this target, {"prediction", "probability"}.
            expected_revision: of this row and target, as ``person`` saw it; 0: there was none.
            new_label: a label that the model does not know is meant.

        Raises:
            Conflict: somebody else saved in between. InputError: the value cannot be right for this row (see
            ``correction_values.check``), or the id stands for another correction. StoreUnavailable, SaveError,
            StoreError: see ``Database``.
        """
        _check_names(id, info.name, target, person)
        form = TargetForm.of(info, target)
        inputs = inputs_of(row, Columns.of(info))
        checked = check(form, value, inputs, new_label=new_label)
        answer = {name: (answer or {}).get(name) for name in ("prediction", "probability")}
        kind: Kind = "confirmed" if same_value(form, checked.value, answer["prediction"], inputs) else "repaired"
        kept = packed(inputs)
        line = {
            "id": id, "model": info.name, "version": info.version, "row_key": kept.key, "target": target,
            "form": json_text(form.to_dict()), "answer": json_text(answer), "value": json_text(checked.value),
            "kind": kind, "person": person, "at": datetime.now(UTC), "undoes": None,
        }  # fmt: skip
        with self._database.write() as connection:
            same = self._with_id(connection, id)
            if same is None:
                self._append(connection, line, expected_revision, kept)
                same = self._with_id(connection, id)
            assert same is not None
        if any(getattr(same, name) != line[name] for name in ("model", "row_key", "target", "value", "person")):
            raise InputError(f"the id {quoted(id)} stands for another correction.", hint="Make a new one for each.")
        return Saved(_correction(same, inputs), checked.messages)

    def undo(self, id: str, person: str) -> Correction:
        """Brings back what stood before the revision ``id``, as a new revision; that of an undoing is what it undid.
        Undoing the same again gives the same.

        Raises:
            Conflict: it is not the newest any more. InputError: there is no such revision.
        """
        _check_names(id, "-", "-", person)
        with self._database.write() as connection:
            undone = self._with_id(connection, id)
            if undone is None:
                raise InputError(f"there is no correction {quoted(id)}.", hint="It was erased, or never saved.")
            again = connection.execute(select(corrections).where(corrections.c.undoes == id)).first()
            if again is None:
                mine = _of(undone.model, undone.row_key, undone.target)
                before = connection.execute(_newest(mine).where(corrections.c.revision < undone.revision)).first()
                line = {
                    **{name: getattr(before or undone, name) for name in _SAME},
                    "id": str(uuid.uuid4()), "person": person, "at": datetime.now(UTC), "undoes": id,
                }  # fmt: skip
                if before is None:
                    line |= {"value": "null", "kind": "withdrawn"}
                self._append(connection, line, undone.revision, None)
                again = self._with_id(connection, line["id"])
            assert again is not None
            return _correction(again, _row(connection, again.row_key))

    # -- reading ------------------------------------------------------------------------------------------------------

    def of_row(self, model: str, row_key: str) -> dict[str, Correction]:
        """Target → the newest revision; where that is "withdrawn", the row is not corrected, and its revision is the
        one to expect.
        """
        with self._database.read() as connection:
            lines = connection.execute(_current(model).where(corrections.c.row_key == row_key)).all()
            row = _row(connection, row_key) if lines else {}
        return {line.target: _correction(line, row) for line in lines}

    def history(self, model: str, row_key: str, target: str) -> builtins.list[Correction]:
        """All revisions, the oldest first."""
        wanted = select(corrections).where(_of(model, row_key, target)).order_by(corrections.c.revision)
        with self._database.read() as connection:
            lines = connection.execute(wanted).all()
            row = _row(connection, row_key) if lines else {}
        return [_correction(line, row) for line in lines]

    def list(
        self, model: str, *, target: str | None = None, person: str | None = None, kind: Kind | None = None,
        since: datetime | None = None, limit: int | None = None, offset: int = 0,
    ) -> builtins.list[Correction]:  # fmt: skip
        """What counts now, in the order in which it was said; what was withdrawn only where that ``kind`` is asked
        for. since: a time with its zone.
        """
        wanted = _filtered(_current(model), target=target, person=person, kind=kind, since=since)
        return [*self._each(wanted.limit(limit).offset(offset))]

    def count(
        self, model: str, *, target: str | None = None, person: str | None = None, kind: Kind | None = None,
        since: datetime | None = None,
    ) -> int:  # fmt: skip
        """How many ``list`` gives."""
        wanted = _filtered(_current(model), target=target, person=person, kind=kind, since=since).order_by(None)
        with self._database.read() as connection:
            return connection.execute(select(func.count()).select_from(wanted.subquery())).scalar_one()

    def models(self) -> dict[str, int]:
        """Name → how many corrections count now, of the models that have any."""
        with self._database.read() as connection:
            names = connection.execute(select(corrections.c.model).distinct().order_by(corrections.c.model)).scalars()
            found = {name: self.count(name) for name in names.all()}
        return {name: count for name, count in found.items() if count}

    def export(
        self, model: str, out: str | Path, *, people: bool = False, target: str | None = None,
        person: str | None = None, kind: Kind | None = None, since: datetime | None = None,
    ) -> Exported:  # fmt: skip
        """Writes them as training rows, never what was withdrawn; see ``export_corrections``.

        Raises:
            InputError: of this model there are none, or its rows do not fit the format. SaveError.
        """
        if not (known := self.models()).get(model):
            raise InputError(f"there are no corrections of {quoted(model)}.", hint=did_you_mean(model, known))
        wanted = _filtered(_current(model), target=target, person=person, kind=kind, since=since)
        wanted = wanted.where(corrections.c.kind != "withdrawn")
        with closing(self._each(wanted)) as found:
            return export_corrections(found, out, people=people, target=target)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _each(self, wanted: Select[Any]) -> Generator[Correction]:
        """One at a time: rows may hold images."""
        with self._database.read() as connection:
            for line in connection.execute(wanted).all():
                yield _correction(line, _row(connection, line.row_key))

    def _with_id(self, connection: Connection, id: str) -> Line[Any] | None:
        return connection.execute(select(corrections).where(corrections.c.id == id)).first()

    def _append(
        self, connection: Connection, line: dict[str, Any], expected_revision: int, row: PackedRow | None
    ) -> None:
        """Writes a revision after the one that is expected. Raises Conflict."""
        mine = _of(line["model"], line["row_key"], line["target"])
        newest = connection.execute(_newest(mine)).first()
        if (newest.revision if newest else 0) != expected_revision:
            if newest is None:
                raise InputError("the correction that you saw was erased.", hint="Save it as a new one.")
            raise Conflict(_correction(newest, _row(connection, newest.row_key)))
        if row is not None:
            _keep_row(connection, row)
        connection.execute(corrections.insert().values(**line, revision=expected_revision + 1))
        note_in(
            connection, line["person"], "correct" if line["undoes"] is None else "undo correction", line["model"],
            target=shown(line["target"], 60), row=line["row_key"][:16], revision=expected_revision + 1,
            kind=line["kind"],
        )  # fmt: skip


_SAME = ("model", "version", "row_key", "target", "form", "answer", "value", "kind")
"""What an undoing takes over from the revision that it brings back."""


def _of(model: str, row_key: str, target: str) -> Any:
    table = corrections.c
    return and_(table.model == model, table.row_key == row_key, table.target == target)


def _newest(condition: Any) -> Select[Any]:
    return select(corrections).where(condition).order_by(corrections.c.revision.desc()).limit(1)


def _current(model: str) -> Select[Any]:
    """The newest revision per row and target."""
    table = corrections.c
    last = (
        select(table.row_key, table.target, func.max(table.revision).label("revision"))
        .where(table.model == model)
        .group_by(table.row_key, table.target)
        .subquery()
    )
    same = and_(
        table.row_key == last.c.row_key, table.target == last.c.target, table.revision == last.c.revision,
        table.model == model,
    )  # fmt: skip
    return select(corrections).join(last, same).order_by(table.at, table.id)


def _filtered(
    wanted: Select[Any], *, target: str | None, person: str | None, kind: Kind | None, since: datetime | None
) -> Select[Any]:
    table = corrections.c
    wanted = wanted.where(table.kind != "withdrawn" if kind is None else table.kind == kind)
    given = {table.target: target, table.person: person}
    wanted = wanted.where(*(column == value for column, value in given.items() if value is not None))
    return wanted if since is None else wanted.where(table.at >= since)


def _keep_row(connection: Connection, row: PackedRow) -> None:
    """The row and its images, each once."""
    there = select(corrected_rows.c.key).where(corrected_rows.c.key == row.key)
    if connection.execute(there).first() is not None:
        return
    connection.execute(corrected_rows.insert().values(key=row.key, row=row.text))
    for digest, content in row.images.items():
        kept = select(corrected_images.c.sha256).where(corrected_images.c.sha256 == digest)
        if connection.execute(kept).first() is None:
            connection.execute(corrected_images.insert().values(sha256=digest, content=content))
        connection.execute(corrected_row_images.insert().values(row_key=row.key, sha256=digest))


def _row(connection: Connection, key: str) -> dict[str, Any]:
    def image(digest: str) -> bytes:
        wanted = select(corrected_images.c.content).where(corrected_images.c.sha256 == digest)
        return bytes(connection.execute(wanted).scalar_one())

    text = connection.execute(select(corrected_rows.c.row).where(corrected_rows.c.key == key)).scalar_one()
    return unpacked(text, image)


def _correction(line: Line[Any], row: Mapping[str, Any]) -> Correction:
    return Correction(
        id=line.id, model=line.model, version=line.version, row=row, row_key=line.row_key, target=line.target,
        form=TargetForm.from_dict(json.loads(line.form)), answer=json.loads(line.answer), value=json.loads(line.value),
        kind=line.kind, person=line.person, at=line.at, revision=line.revision, undoes=line.undoes,
    )  # fmt: skip


def _check_names(id: str, model: str, target: str, person: str) -> None:
    """Raises InputError for names that a database could not keep."""
    if not _ID.fullmatch(id):
        raise InputError(f"{quoted(id)} is no id of a correction.", hint="Expected 8 to 64 letters, digits, - or _.")
    for what, name, most in (
        ("model", model, _LONGEST_NAME),
        ("target", target, _LONGEST_NAME),
        ("person", person, _PERSON),
    ):
        if not 0 < len(name) <= most or "\0" in name:
            raise InputError(f"{quoted(name, 60)} is no name of a {what}, expected 1 to {most} characters.")
