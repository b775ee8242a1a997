"""What a person may say is right for a row: one typed value per task, checked and in one form.

| task | value |
|---|---|
| classification | a label; of a target with several labels a list of them |
| regression | a finite number |
| tagging, entities | [{"start", "end", "label", "text"}], characters of the text, on whole words |
| qa | {"text", "start", "end"} of the passage; no answer: {"text": "", "start": None, "end": None} |
| detection | [{"box": [left, top, right, bottom], "label"}], pixels of the image as it was sent |

What is checked once passes again, unchanged.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from polydetr.errors import InputError, Location, RowError, did_you_mean, listed, quoted, shown
from polydetr.modalities.text import as_text
from polydetr.schema.spec import IGNORE
from polydetr.serving.contract import ModelInfo, Row
from polydetr.studio.correction_spans import checked_answer, checked_spans
from polydetr.values.boxes import number, repair_box
from polydetr.values.cells import category_name, is_missing, read_number
from polydetr.values.decoding import shown_size
from polydetr.values.images import list_images
from polydetr.values.tags import types_of

TASKS = ("classification", "regression", "tagging", "entities", "qa", "detection")
"""Whose answers can be corrected by hand: nobody writes a vector, or draws a generated image."""
OF_TEXT = ("tagging", "entities", "qa")
LONGEST_LABEL = 200
"""Characters of a label that is new."""
_NO_LINE = frozenset(("Cc", "Cs", "Zl", "Zp"))
"""Categories of Unicode: control characters, halves of characters, ends of lines and paragraphs."""


@dataclass(frozen=True)
class TargetForm:
    """What is known of a target whose answers are corrected.

    labels: those that the model knows, each of its own type. column: the text that spans and answers count characters
    of, or the image that boxes lie in; None for other tasks. several: a row may have several labels. plain: each word
    has a label of its own (parts of speech), rather than spans of words.
    """

    target: str
    task: str
    labels: tuple[Any, ...] = ()
    column: str | None = None
    several: bool = False
    plain: bool = False

    @classmethod
    def of(cls, info: ModelInfo, target: str) -> TargetForm:
        """As the model's folder describes the target.

        Raises:
            InputError: the model has no such target, or its answers cannot be corrected.
        """
        schema, learned = info.description["schema"], info.description["tasks"]
        tasks = {one["name"]: one["task"] for one in schema["targets"]}
        if target not in tasks:
            raise InputError(f"{quoted(info.name)} has no target {quoted(target)}.", hint=did_you_mean(target, tasks))
        task = tasks[target]
        if task not in TASKS:
            raise InputError(f"the target {quoted(target)} is one of {task}, whose answers nobody corrects by hand.")
        own = learned.get(target, {})
        labels, plain = own.get("labels") or (), bool(own.get("plain"))
        if task == "tagging" and not plain:
            labels = sorted(types_of(labels))
        kind = "text" if task in OF_TEXT else "image" if task == "detection" else IGNORE
        columns = [one["name"] for one in schema["inputs"] if one["modality"] == kind != IGNORE]
        column = None if not columns else columns[0] if kind == "image" else columns[-1]
        return cls(target, task, tuple(labels), column, several=bool(own.get("multi_label")), plain=plain)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "labels": list(self.labels)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TargetForm:
        return cls(**{**data, "labels": tuple(data["labels"])})


@dataclass(frozen=True)
class Checked:
    """A value in its one form, and what was done to it: fitted, cut, a label that is new."""

    value: Any
    messages: tuple[str, ...] = ()


def check(form: TargetForm, value: Any, row: Row, *, new_label: bool = False) -> Checked:
    """The value in the form that is kept. new_label: a label that the model does not know is taken, and told.

    Raises:
        InputError: it cannot be right for this row; the message names the value, what was expected, and its place.
    """
    try:
        labels = Labels(form, new_label=new_label)
        found, messages = _CHECKS[form.task](form, value, row, labels)
    except RowError as error:
        raise InputError(error.message, location=Location(column=form.target), hint=error.hint) from None
    return Checked(found, (*messages, *labels.messages))


def same_value(form: TargetForm, value: Any, prediction: Any, row: Row) -> bool:
    """Whether the model answered just this. value: as ``check`` gives it; prediction: as a reply has it."""
    try:
        return prediction is not None and check(form, prediction, row, new_label=True).value == value
    except InputError:
        return False


# -- labels -----------------------------------------------------------------------------------------------------------


class Labels:
    """Reads labels of one value; ``messages`` tells those that are new."""

    def __init__(self, form: TargetForm, *, new_label: bool) -> None:
        self.form, self.may_be_new = form, new_label
        self.by_name = {category_name(label): label for label in form.labels}
        self.messages: list[str] = []

    def read(self, label: Any, *, where: str = "") -> Any:
        """The label as the model writes it. Raises RowError; where: begins its message."""
        if isinstance(label, Mapping | list | tuple | bytes) or is_missing(label):
            raise RowError(
                f"{where}{quoted(label, 60)} is no label, expected one of {listed(self.form.labels, limit=160)}."
            )
        name = category_name(label)
        if name in self.by_name:
            return self.by_name[name]
        if not self.may_be_new:
            raise RowError(
                f"{where}the label {quoted(label, 60)} is unknown.",
                hint=f"{did_you_mean(name, self.by_name, limit=160)} A label that is new is taken where that is said.",
            )
        return self._new(label if isinstance(label, int | float) else name, name)

    def _new(self, label: Any, name: str) -> Any:
        if len(name) > LONGEST_LABEL or any(unicodedata.category(c) in _NO_LINE for c in name):
            raise RowError(
                f"{quoted(name, 60)} cannot be a label: it has to be one line of at most {LONGEST_LABEL} characters."
            )
        self.by_name[name] = label
        self.messages.append(f"the label {shown(name)} is new: the model answers it once it was trained with it")
        return label

    def order(self, label: Any) -> int:
        """Its place among the known labels, then the new ones in their order."""
        return list(self.by_name).index(category_name(label))


# -- one value per task -----------------------------------------------------------------------------------------------

Found = tuple[Any, Sequence[str]]


def _label(form: TargetForm, value: Any, _row: Row, labels: Labels) -> Found:
    if not form.several:
        return labels.read(value), ()
    if not isinstance(value, list | tuple):
        raise RowError(f"{quoted(value, 60)} is no list of labels.", hint="Of this target a row may have several.")
    found = {category_name(label): label for label in map(labels.read, value)}
    return sorted(found.values(), key=labels.order), ()


def _number(form: TargetForm, value: Any, _row: Row, _labels: Labels) -> Found:
    if isinstance(value, bool):
        raise RowError(f"{value!r} is a truth value, expected a number.")
    read = read_number(value, column=form.target)
    if read is None:
        raise RowError(f"{quoted(value, 60)} is no number, expected a finite one.")
    return (value if type(value) is int else read), ()


def _spans(form: TargetForm, value: Any, row: Row, labels: Labels) -> Found:
    text = as_text(row.get(str(form.column)), field=str(form.column))
    return checked_spans(
        value, text, labels.read, apart=form.task == "tagging", words_have_labels=form.task == "tagging" and form.plain
    )


def _answer(form: TargetForm, value: Any, row: Row, _labels: Labels) -> Found:
    return checked_answer(value, as_text(row.get(str(form.column)), field=str(form.column)).text), ()


def _boxes(form: TargetForm, value: Any, row: Row, labels: Labels) -> Found:
    """Boxes that reach out of the image are cut at its edges."""
    images = list_images(row.get(str(form.column)))
    if len(images) != 1 or not isinstance(images[0], bytes):
        raise RowError(f"the row has {len(images)} images in {quoted(form.column)}, expected one to draw boxes in.")
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence):
        raise RowError(
            f"{quoted(value, 60)} is no list of boxes.",
            hint='Expected [{"box": [left, top, right, bottom] in pixels, "label": name}]; [] where there is nothing.',
        )
    size, _ = shown_size(images[0])
    boxes: list[dict[str, Any]] = []
    messages: list[str] = []
    for place, one in enumerate(value, 1):
        found, repairs = _box(one, size, labels, f"box {place}: ")
        messages += [f"box {place}: {sentence}" for sentence in repairs]
        if found in boxes:
            messages.append(f"box {place} is there twice, and kept once")
        else:
            boxes.append(found)
    return boxes, messages


def _box(one: Any, size: tuple[int, int], labels: Labels, where: str) -> tuple[dict[str, Any], list[str]]:
    """One box and what was repaired. Raises RowError."""
    if not isinstance(one, Mapping) or "box" not in one:
        raise RowError(f'{where}{quoted(one, 60)} is none, expected {{"box": [...], "label": name}}.')
    corners = one["box"]
    if isinstance(corners, str | bytes | Mapping) or not isinstance(corners, Sequence) or len(corners) != 4:
        raise RowError(f"{where}{quoted(corners, 60)} is not left, top, right, bottom.")
    try:
        repaired, repairs = repair_box([number(side) for side in corners], size)
    except (ValueError, RowError) as error:
        raise RowError(f"{where}{error.message if isinstance(error, RowError) else error}") from None
    if repaired is None:
        raise RowError(
            f"{where}{repairs[-1][1]}.", hint=f"The image has {size[0]}×{size[1]} pixels, counted from its upper left."
        )
    return {"box": list(repaired), "label": labels.read(one.get("label"), where=where)}, [s for _, s in repairs]


_CHECKS: dict[str, Callable[[TargetForm, Any, Row, Labels], Found]] = {
    "classification": _label, "regression": _number, "tagging": _spans, "entities": _spans, "qa": _answer,
    "detection": _boxes,
}  # fmt: skip
