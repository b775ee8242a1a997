"""The formats of corrected rows: JSON lines, CSV, COCO (boxes) and CoNLL (spans); each as the content of a file."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from polydetr.core.files import json_text
from polydetr.data.writers.base import text_cell
from polydetr.errors import InputError, Location, quoted
from polydetr.modalities.text import as_text
from polydetr.studio.correction import Correction
from polydetr.studio.correction_images import ImageFolder
from polydetr.studio.correction_values import TargetForm
from polydetr.values.formulas import without_formula
from polydetr.values.spans import Span
from polydetr.values.tags import WordSpan, fit_to_words, iob2_to_word_spans, word_spans_to_iob2

JSON_LINES = "JSON lines hold any row: call the file ….jsonl."


@dataclass
class Entry:
    """One row with its corrections by target. cells: its inputs, with paths in place of images."""

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


@dataclass(frozen=True)
class Written:
    """The content of a file; rows: what reading it has to give, of the columns that they have. inputs, targets: as a
    reader is told them.
    """

    content: bytes
    rows: Sequence[Mapping[str, Any]]
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    messages: tuple[str, ...] = ()


def cannot_hold(number: int, column: str, value: Any) -> InputError:
    return InputError(
        f"this format cannot hold {quoted(value, 80)}.", location=Location(row=number, column=column), hint=JSON_LINES
    )


def _columns(entries: Sequence[Entry], forms: Mapping[str, TargetForm]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    inputs = tuple(dict.fromkeys(name for entry in entries for name in entry.cells))
    if both := [name for name in forms if name in inputs]:
        raise InputError(f"the column {quoted(both[0])} is an input and a target, and cannot be written as both.")
    return inputs, tuple(forms)


def _json_lines(entries: Sequence[Entry], forms: Mapping[str, TargetForm], _images: ImageFolder) -> Written:
    inputs, targets = _columns(entries, forms)
    rows = [{**dict.fromkeys(inputs), **entry.cells, **entry.values()} for entry in entries]
    content = "".join(json_text(row) + "\n" for row in rows)
    return Written(content.encode(), rows, inputs, targets)


def _csv(entries: Sequence[Entry], forms: Mapping[str, TargetForm], _images: ImageFolder) -> Written:
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
    cells = "1 cell" if escaped == 1 else f"{escaped:,} cells"
    told = f"an apostrophe was put before {cells} that a spreadsheet might run; JSON lines need none"
    return Written(text.getvalue().encode(), rows, inputs, targets, (told,) if escaped else ())


def _moved(value: Any, form: TargetForm) -> Any:
    """Spans of a text that got an apostrophe before it."""
    if form.task == "detection" or form.plain:
        return value
    return [{name: at + 1 if name in ("start", "end") else at for name, at in one.items()} for one in value]


def _coco(entries: Sequence[Entry], forms: Mapping[str, TargetForm], images: ImageFolder) -> Written:
    """https://cocodataset.org/#format-data; boxes are left, top, width, height there."""
    form = _only_form(forms, ("detection",), "COCO", "boxes")
    labels = dict.fromkeys([*form.labels, *(one["label"] for e in entries for one in e.values()[form.target])])
    numbers = {str(label): number for number, label in enumerate(labels, 1)}
    listed_images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for number, entry in enumerate(entries, 1):
        name, value = str(entry.cells[str(form.column)]), entry.values()[form.target]
        width, height = images.sizes[name]
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
    return Written(json_text(document).encode(), rows, ("image",), ("objects",), told)


def _side(low: float, high: float) -> float:
    """``high - low``, so that low + side is high to the last bit."""
    side = high - low
    near = (side, math.nextafter(side, math.inf), math.nextafter(side, 0.0))
    return next((one for one in near if low + one == high), side)


def _conll(entries: Sequence[Entry], forms: Mapping[str, TargetForm], _images: ImageFolder) -> Written:
    """A word and its tag (IOB2) per line, a blank line after each row; words as our models cut them."""
    form = _only_form(forms, ("tagging", "entities"), "CoNLL", "spans of words")
    column = str(form.column)
    rows: list[dict[str, Any]] = []
    for number, entry in enumerate(entries, 1):
        text = as_text(entry.cells.get(column), field=column)
        words = [text.text[start:end] for start, end in text.words]
        value = entry.corrections[form.target].value
        tags = [one["label"] for one in value] if form.plain else _tags(value, text.words, number, form.target)
        if not words:
            raise InputError(
                "a row without a word cannot stand in CoNLL.", location=Location(row=number), hint=JSON_LINES
            )
        rows.append({"tokens": words, form.target: tags})
    told = _told_names({column: "tokens"}, "CoNLL")
    content = "".join(
        "".join(f"{word}\t{tag}\n" for word, tag in zip(row["tokens"], row[form.target], strict=True)) + "\n"
        for row in rows
    )
    return Written(content.encode("utf-8", "surrogatepass"), rows, ("tokens",), (form.target,), told)


def _tags(spans: Sequence[Mapping[str, Any]], words: Sequence[tuple[int, int]], row: int, target: str) -> list[str]:
    """Raises InputError where one span lies in another, which tags cannot say."""
    fitted, _ = fit_to_words(words, [Span(one["start"], one["end"], str(one["label"])) for one in spans])
    whole: list[WordSpan] = [(first, last, span.label) for first, last, span in fitted]
    tags = word_spans_to_iob2(len(words), whole)
    if iob2_to_word_spans(tags) != sorted(whole):
        raise cannot_hold(row, target, [one["text"] for one in spans])
    return tags


def _only_form(forms: Mapping[str, TargetForm], tasks: tuple[str, ...], name: str, what: str) -> TargetForm:
    """Raises InputError."""
    fitting = [form for form in forms.values() if form.task in tasks]
    if len(forms) != 1 or not fitting:
        found = ", ".join(f"{form.target} ({form.task})" for form in forms.values())
        hint = f"Name one: target={fitting[0].target!r} (--target {fitting[0].target})." if fitting else JSON_LINES
        raise InputError(f"{name} holds {what} of one target; corrected were {found}.", hint=hint)
    return fitting[0]


def _told_names(names: Mapping[str, str], kind: str) -> tuple[str, ...]:
    """Column → what the reader of the format calls it."""
    return tuple(f"{kind} calls the column {ours!r} {theirs!r}" for ours, theirs in names.items() if ours != theirs)


WRITERS: dict[str, Callable[[Sequence[Entry], Mapping[str, TargetForm], ImageFolder], Written]] = {
    "jsonl": _json_lines,
    "csv": _csv,
    "coco": _coco,
    "conll": _conll,
}
"""Format → what writes it. All raise InputError for a row that the format cannot hold."""
