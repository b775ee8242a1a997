"""Corrections as training rows: JSON lines, CSV, COCO (boxes) and CoNLL (spans), by the name of the file.

Who corrected and when stands in a file of its own, and only where that is asked for: a column of names beside the
inputs would be read as an input. Images are written once each, into a folder beside the file. Every file is read again
by our own readers before it takes its name; what a format cannot hold is an error that names the row.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from polydetr.core.files import json_text, make_folder, saved
from polydetr.core.reading import ExpectedColumns
from polydetr.data.readers import read_records
from polydetr.data.writers.base import text_cell
from polydetr.errors import InputError, Location, PolydetrError, SaveError, did_you_mean, quoted
from polydetr.modalities.text import as_text
from polydetr.studio.correction import Correction
from polydetr.studio.correction_rows import with_images
from polydetr.studio.correction_values import TargetForm
from polydetr.values.formulas import without_formula
from polydetr.values.spans import Span
from polydetr.values.tags import WordSpan, fit_to_words, iob2_to_word_spans, word_spans_to_iob2

FORMATS = {".jsonl": "jsonl", ".csv": "csv", ".json": "coco", ".conll": "conll"}
"""Suffix → what is written."""
_JSON_LINES = "JSON lines hold any row: call the file ….jsonl."


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


@dataclass
class _Entry:
    """One row with its corrections by target. cells: its inputs, with paths in place of images."""

    row: Mapping[str, Any]
    cells: Mapping[str, Any]
    corrections: dict[str, Correction] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """Target → value as training rows have it."""
        return {target: training_value(one) for target, one in self.corrections.items()}


def training_value(correction: Correction) -> Any:
    """The value as the task reads it from a training row."""
    form, value = correction.form, correction.value
    if form.task == "qa":
        return [{"text": value["text"], "start": value["start"]}] if value["start"] is not None else []
    return [one["label"] for one in value] if form.plain else value


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
    kept = [one for one in corrections if target in (None, one.target)]
    if not kept:
        raise InputError("there are no corrections to write." if target is None else _none_of(target))
    images = _Images(out)
    entries: dict[str, _Entry] = {}
    for one in kept:
        if one.row_key not in entries:
            entries[one.row_key] = _Entry(one.row, {n: with_images(v, images.put) for n, v in one.row.items()})
        entries[one.row_key].corrections[one.target] = one
    forms = {one.target: one.form for one in kept}
    written = _WRITERS[kind](list(entries.values()), forms, images)
    _save(out, written)
    beside = out.with_name(f"{out.stem}.people.jsonl")
    if people:
        _write_people(beside, entries.values())
    folder = images.folder if images.names else None
    return Exported(out, len(entries), len(kept), folder, beside if people else None, written.messages)


def _none_of(target: str) -> str:
    return f"there are no corrections of the target {quoted(target)}."


@dataclass(frozen=True)
class _Written:
    """The content of a file; rows: what reading it has to give, of the columns that they have. inputs, targets: as a
    reader is told them.
    """

    content: bytes
    rows: Sequence[Mapping[str, Any]]
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    messages: tuple[str, ...] = ()


def _save(out: Path, written: _Written) -> None:
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


def _check(draft: Path, written: _Written) -> None:
    expected = ExpectedColumns(written.inputs, written.targets)
    number = 0
    try:
        for number, (record, row) in enumerate(
            zip(read_records(draft, expected=expected), written.rows, strict=True), 1
        ):
            found = {name: _plain_objects(record.row.get(name)) for name in row}
            if found != row:
                column = next(name for name in row if found[name] != row[name])
                raise _cannot_hold(number, column, row[column])
    except PolydetrError as error:
        if isinstance(error, InputError) and error.hint == _JSON_LINES:
            raise
        raise InputError(
            f"the file would not be read as it was written, at row {number + 1}: {error.message}", hint=_JSON_LINES
        ) from None
    except ValueError:  # of zip
        raise InputError(
            f"the file would be read as other than the {len(written.rows)} rows that were written.", hint=_JSON_LINES
        ) from None


def _cannot_hold(number: int, column: str, value: Any) -> InputError:
    return InputError(
        f"this format cannot hold {quoted(value, 80)}.", location=Location(row=number, column=column), hint=_JSON_LINES
    )


def _plain_objects(value: Any) -> Any:
    """Boxes without what their reader adds."""
    if isinstance(value, list) and value and all(isinstance(one, dict) and "box" in one for one in value):
        return [{"box": one["box"], "label": one["label"]} for one in value]
    return value


# -- formats ----------------------------------------------------------------------------------------------------------


def _columns(entries: Sequence[_Entry], forms: Mapping[str, TargetForm]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    inputs = tuple(dict.fromkeys(name for entry in entries for name in entry.cells))
    if both := [name for name in forms if name in inputs]:
        raise InputError(f"the column {quoted(both[0])} is an input and a target, and cannot be written as both.")
    return inputs, tuple(forms)


def _json_lines(entries: Sequence[_Entry], forms: Mapping[str, TargetForm], _images: _Images) -> _Written:
    inputs, targets = _columns(entries, forms)
    rows = [{**dict.fromkeys(inputs), **entry.cells, **entry.values()} for entry in entries]
    content = "".join(json_text(row) + "\n" for row in rows)
    return _Written(content.encode(), rows, inputs, targets)


def _csv(entries: Sequence[_Entry], forms: Mapping[str, TargetForm], _images: _Images) -> _Written:
    """As ``data.writers`` writes cells. Every cell is quoted: a text may hold whatever parts cells and rows."""
    inputs, targets = _columns(entries, forms)
    rows: list[dict[str, str]] = []
    escaped = 0
    for entry in entries:
        cells = {name: entry.cells.get(name) for name in inputs}
        moved = {name for name, value in cells.items() if isinstance(value, str) and without_formula(value) != value}
        escaped += len(moved)
        values = {
            target: _moved(value, forms[target]) if forms[target].column in moved else value
            for target, value in entry.values().items()
        }
        rows.append({name: text_cell(value) for name, value in {**cells, **dict.fromkeys(targets), **values}.items()})
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow([text_cell(name) for name in (*inputs, *targets)])
    writer.writerows([row[name] for name in (*inputs, *targets)] for row in rows)
    told = f"an apostrophe was put before {escaped} cells that a spreadsheet might run; JSON lines need none"
    return _Written(text.getvalue().encode(), rows, inputs, targets, (told,) if escaped else ())


def _moved(value: Any, form: TargetForm) -> Any:
    """Spans of a text that got an apostrophe before it."""
    if form.task == "detection" or form.plain:
        return value
    return [{name: at + 1 if name in ("start", "end") else at for name, at in one.items()} for one in value]


def _coco(entries: Sequence[_Entry], forms: Mapping[str, TargetForm], images: _Images) -> _Written:
    """https://cocodataset.org/#format-data; boxes are left, top, width, height there."""
    form = _only_form(forms, ("detection",), "COCO", "boxes")
    labels = dict.fromkeys([*form.labels, *(one["label"] for e in entries for one in e.values()[form.target])])
    numbers = {str(label): number for number, label in enumerate(labels, 1)}
    listed_images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for number, entry in enumerate(entries, 1):
        name, value = str(entry.cells[str(form.column)]), entry.values()[form.target]
        width, height = images.size(name)
        listed_images.append({"id": number, "file_name": name, "width": width, "height": height})
        for one in value:
            left, top, right, bottom = one["box"]
            sides = _side(left, right), _side(top, bottom)
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": numbers[str(one["label"])],
                "bbox": [left, top, *sides], "area": sides[0] * sides[1], "iscrowd": 0,
            })  # fmt: skip
        boxes = [{"box": one["box"], "label": str(one["label"])} for one in value]
        rows.append({"image": str(images.path(name).absolute()), "objects": boxes})
    document = {
        "images": listed_images, "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in numbers.items()],
    }  # fmt: skip
    told = _told_names({str(form.column): "image", form.target: "objects"}, "COCO")
    return _Written(json_text(document).encode(), rows, ("image",), ("objects",), told)


def _side(low: float, high: float) -> float:
    """``high - low``, so that low + side is high to the last bit."""
    side = high - low
    near = (side, math.nextafter(side, math.inf), math.nextafter(side, 0.0))
    return next((one for one in near if low + one == high), side)


def _conll(entries: Sequence[_Entry], forms: Mapping[str, TargetForm], _images: _Images) -> _Written:
    """A word and its tag (IOB2) per line, a blank line after each row; words as our models cut them."""
    form = _only_form(forms, ("tagging", "entities"), "CoNLL", "spans of words")
    column = str(form.column)
    rows: list[dict[str, Any]] = []
    for number, entry in enumerate(entries, 1):
        text = as_text(entry.row.get(column), field=column)
        words = [text.text[start:end] for start, end in text.words]
        value = entry.corrections[form.target].value
        tags = [one["label"] for one in value] if form.plain else _tags(value, text.words, number, form.target)
        if not words:
            raise InputError(
                "a row without a word cannot stand in CoNLL.", location=Location(row=number), hint=_JSON_LINES
            )
        rows.append({"tokens": words, form.target: tags})
    told = _told_names({column: "tokens"}, "CoNLL")
    content = "".join(
        "".join(f"{word}\t{tag}\n" for word, tag in zip(row["tokens"], row[form.target], strict=True)) + "\n"
        for row in rows
    )
    return _Written(content.encode("utf-8", "surrogatepass"), rows, ("tokens",), (form.target,), told)


def _tags(spans: Sequence[Mapping[str, Any]], words: Sequence[tuple[int, int]], row: int, target: str) -> list[str]:
    """Raises InputError where one span lies in another, which tags cannot say."""
    fitted, _ = fit_to_words(words, [Span(one["start"], one["end"], str(one["label"])) for one in spans])
    whole: list[WordSpan] = [(first, last, span.label) for first, last, span in fitted]
    tags = word_spans_to_iob2(len(words), whole)
    if iob2_to_word_spans(tags) != sorted(whole):
        raise _cannot_hold(row, target, [one["text"] for one in spans])
    return tags


def _only_form(forms: Mapping[str, TargetForm], tasks: tuple[str, ...], name: str, what: str) -> TargetForm:
    """Raises InputError."""
    fitting = [form for form in forms.values() if form.task in tasks]
    if len(forms) != 1 or not fitting:
        found = ", ".join(f"{form.target} ({form.task})" for form in forms.values())
        hint = f"Name one: target={fitting[0].target!r} (--target {fitting[0].target})." if fitting else _JSON_LINES
        raise InputError(f"{name} holds {what} of one target; corrected were {found}.", hint=hint)
    return fitting[0]


def _told_names(names: Mapping[str, str], kind: str) -> tuple[str, ...]:
    """Column → what the reader of the format calls it."""
    return tuple(f"{kind} calls the column {ours!r} {theirs!r}" for ours, theirs in names.items() if ours != theirs)


_WRITERS = {"jsonl": _json_lines, "csv": _csv, "coco": _coco, "conll": _conll}


# -- beside the file --------------------------------------------------------------------------------------------------


class _Images:
    """Writes images into the folder ``STEM.images`` beside a file, each once. names: those written."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self.folder = out.with_name(f"{out.stem}.images")
        self.names: dict[str, tuple[int, int]] = {}

    def put(self, content: bytes) -> str:
        """The path of the image from the file. Raises SaveError, InputError."""
        with _opened(content) as image:
            kind, size = str(image.format).lower(), image.size
        name = f"{self.folder.name}/{hashlib.sha256(content).hexdigest()[:32]}.{_SUFFIXES.get(kind, kind)}"
        if name not in self.names:
            path = self.path(name)
            try:
                make_folder(path.parent)
            except OSError as error:
                raise SaveError(f"{str(path.parent)!r} cannot be made: {error.strerror or error}.") from None
            with saved(path) as file:
                file.write(content)
            self.names[name] = size
        return name

    def path(self, name: str) -> Path:
        return self._out.parent / name

    def size(self, name: str) -> tuple[int, int]:
        """(width, height) as the image is seen."""
        from polydetr.values.decoding import shown_size

        return shown_size(self.path(name))[0]


_SUFFIXES = {"jpeg": "jpg", "mpo": "jpg", "jpeg2000": "jp2"}


def _opened(content: bytes) -> Image.Image:
    from polydetr.values.files import FORMATS as OPENED

    try:
        return Image.open(io.BytesIO(content), formats=OPENED)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"an image of {len(content):,} bytes cannot be written: {quoted(str(error), 80)}.") from None


def _write_people(path: Path, entries: Iterable[_Entry]) -> None:
    with saved(path) as file:
        for number, entry in enumerate(entries, 1):
            for one in entry.corrections.values():
                line = {
                    "row": number, "target": one.target, "person": one.person, "at": one.at.isoformat(),
                    "kind": one.kind, "answer": one.answer, "model": one.model, "version": one.version, "id": one.id,
                    "revision": one.revision,
                }  # fmt: skip
                file.write((json_text(line) + "\n").encode())
