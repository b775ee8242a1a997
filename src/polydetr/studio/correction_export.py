"""Corrections as training rows: JSON lines, CSV, COCO (boxes) and CoNLL (spans), by the name of the file.

Who corrected and when stands in a file of its own, and only where that is asked for: a column of names beside the
inputs would be read as an input. Images are written once each, into a folder beside the file. Every file is read again
by our own readers before it takes its name; what a format cannot hold is an error that names the row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from polydetr.core.files import json_text, saved
from polydetr.core.reading import ExpectedColumns
from polydetr.data.readers import read_records
from polydetr.errors import InputError, PolydetrError, SaveError, did_you_mean, quoted
from polydetr.studio.correction import Correction
from polydetr.studio.correction_formats import JSON_LINES, WRITERS, Entry, Written, cannot_hold
from polydetr.studio.correction_images import ImageFolder
from polydetr.studio.correction_rows import with_images

FORMATS = {".jsonl": "jsonl", ".csv": "csv", ".json": "coco", ".conll": "conll"}
"""Suffix → what is written."""


@dataclass(frozen=True)
class Exported:
    """rows: in the file, each with what was corrected of it; images, people: where those were written, if anywhere."""

    path: Path
    rows: int
    corrections: int
    images: Path | None = None
    people: Path | None = None
    messages: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "path": str(self.path), "rows": self.rows, "corrections": self.corrections,
            "images": self.images and str(self.images), "people": self.people and str(self.people),
            "messages": list(self.messages),
        }  # fmt: skip


def export_corrections(
    corrections: Iterable[Correction], out: str | Path, *, people: bool = False, target: str | None = None
) -> Exported:
    """Writes the rows, in the order in which they were first corrected. people: also who and when, into
    ``STEM.people.jsonl``, a line per correction with the number of its row. target: only what was corrected of this
    one; COCO and CoNLL hold one.

    Raises:
        InputError: a name with another suffix, nothing to write, a row that this format cannot hold. SaveError: it
        cannot be written.
    """
    out = Path(out)
    kind = FORMATS.get(out.suffix.lower())
    if kind is None:
        raise InputError(
            f"{quoted(out.name)} is no name of a file of corrections.", hint=did_you_mean(out.suffix, FORMATS)
        )
    images = ImageFolder(out)
    entries: dict[str, Entry] = {}
    for one in corrections:
        if target in (None, one.target):
            if one.row_key not in entries:
                entries[one.row_key] = Entry({name: with_images(cell, images.put) for name, cell in one.row.items()})
            entries[one.row_key].corrections[one.target] = replace(one, row={})  # the images are written, and let go
    kept = [one for entry in entries.values() for one in entry.corrections.values()]
    if not kept:
        of = "" if target is None else f" of the target {quoted(target)}"
        raise InputError(f"there are no corrections{of} to write.")
    written = WRITERS[kind](list(entries.values()), {one.target: one.form for one in kept}, images)
    _save(out, written)
    beside = out.with_name(f"{out.stem}.people.jsonl")
    if people:
        _write_people(beside, entries.values())
    folder = images.folder if images.sizes else None
    return Exported(out, len(entries), len(kept), folder, beside if people else None, written.messages)


def _save(out: Path, written: Written) -> None:
    """Raises InputError where reading the file gives other rows; it then takes no name."""
    draft = out.with_name(f".{out.stem}.draft{out.suffix}")
    try:
        with saved(draft) as file:
            file.write(written.content)
        _check(draft, written)
        draft.replace(out)
    except OSError as error:
        raise SaveError(f"{str(out)!r} cannot be written: {error.strerror or error}.") from None
    finally:
        draft.unlink(missing_ok=True)


def _check(draft: Path, written: Written) -> None:
    expected = ExpectedColumns(written.inputs, written.targets)
    number = 0
    try:
        for number, (record, row) in enumerate(
            zip(read_records(draft, expected=expected), written.rows, strict=True), 1
        ):
            found = {name: _plain_objects(record.row.get(name)) for name in row}
            if found != row:
                column = next(name for name in row if found[name] != row[name])
                raise cannot_hold(number, column, row[column])
    except PolydetrError as error:
        if isinstance(error, InputError) and error.hint == JSON_LINES:
            raise
        raise InputError(
            f"the file would not be read as it was written, at row {number + 1}: {error.message}", hint=JSON_LINES
        ) from None
    except ValueError:  # of zip
        raise InputError(
            f"the file would be read as other than the {len(written.rows)} rows that were written.", hint=JSON_LINES
        ) from None


def _plain_objects(value: Any) -> Any:
    """Boxes without what their reader adds."""
    if isinstance(value, list) and value and all(isinstance(one, dict) and "box" in one for one in value):
        return [{"box": one["box"], "label": one["label"]} for one in value]
    return value


def _write_people(path: Path, entries: Iterable[Entry]) -> None:
    with saved(path) as file:
        for number, entry in enumerate(entries, 1):
            for one in entry.corrections.values():
                line = {
                    "row": number, "target": one.target, "person": one.person, "at": one.at.isoformat(),
                    "kind": one.kind, "answer": one.answer, "model": one.model, "version": one.version, "id": one.id,
                    "revision": one.revision,
                }  # fmt: skip
                file.write((json_text(line) + "\n").encode())
