"""A corrected value ↔ what the editors of a page hold: labels by their numbers, places as they were drawn.

| task | what its editor holds |
|---|---|
| classification | the number of a label, None: none is chosen; of several labels a list of numbers |
| regression | the text of a field |
| tagging, entities | [{"start", "end", "label": number}] |
| qa | the same, with one span of the label 0; []: there is no answer |
| detection | [{"box", "label": number}] |
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from polydetr.errors import InputError, PolydetrError
from polydetr.modalities.text import as_text
from polydetr.reports.style import label_colors
from polydetr.serving.contract import Reply, Row
from polydetr.studio.correction import Correction
from polydetr.studio.correction_values import OF_TEXT, TargetForm, check
from polydetr.values.cells import category_name, is_missing
from polydetr.web.components.number_text import number_text
from polydetr.web.components.spans import Overlap

MOST_SHOWN = 60
"""Characters of a text that are quoted."""


@dataclass
class Labels:
    """The labels that may be chosen: those of the model, then new ones in the order in which they were named."""

    known: tuple[Any, ...]
    new: list[str] = field(default_factory=list)

    @property
    def every(self) -> list[Any]:
        return [*self.known, *self.new]

    @property
    def names(self) -> list[str]:
        return [category_name(label) for label in self.every]

    @property
    def colors(self) -> list[str]:
        """One per label; those of the model have the colors that they have in every report."""
        colors = label_colors(map(category_name, self.known))
        more = label_colors(self.names)
        return [colors.get(name, more[name]) for name in self.names] or ["#2f6db3"]

    def add(self, name: str) -> int:
        """The number of a label that is named here, new or not."""
        if name not in self.names:
            self.new.append(name)
        return self.names.index(name)


def text_of(form: TargetForm, row: Row) -> str:
    """The text in which a target's spans lie. Raises RowError: the row has none."""
    return as_text(row.get(str(form.column)), field=str(form.column)).text


def overlap_of(form: TargetForm) -> Overlap:
    """What spans of a target may do."""
    if form.task == "qa":
        return "one"
    return "allowed" if form.task == "entities" else "words" if form.plain else "apart"


def first_value(form: TargetForm, row: Row, reply: Reply | None, saved: Correction | None) -> Any:
    """What an editor begins with: what was said before, else what the model answered; None where it answered nothing
    that can be right.
    """
    if saved is not None and saved.kind != "withdrawn":
        return saved.value
    prediction = ((reply or {}).get("prediction") or {}).get(form.target)
    if prediction is None:
        return None
    try:
        return check(form, prediction, row, new_label=True).value
    except InputError:
        return None


def held(form: TargetForm, labels: Labels, value: Any) -> Any:
    """What the editor holds for a value; a label that is unknown becomes a new one."""
    if form.task == "regression":
        return "" if value is None else f"{value:.6g}" if type(value) is float and _is_same(value) else str(value)
    if form.task == "classification":
        if form.several:
            return [labels.add(category_name(label)) for label in value or ()]
        return None if value is None else labels.add(category_name(value))
    if form.task == "qa":
        if value is None or value.get("start") is None:
            return []
        return [{"start": value["start"], "end": value["end"], "label": 0}]
    places = ("box",) if form.task == "detection" else ("start", "end")
    return [
        {**{name: one[name] for name in places}, "label": labels.add(category_name(one["label"]))}
        for one in value or ()
    ]


def _is_same(value: float) -> bool:
    """Whether six digits say a number wholly; else all are shown, as confirming must not round."""
    return float(f"{value:.6g}") == value


def value_of(form: TargetForm, labels: Labels, holds: Any, row: Row) -> Any:
    """What is saved: the inverse of ``held``, not checked yet.

    Raises:
        InputError: no label is chosen.
    """
    every = labels.every
    if form.task == "regression":
        return holds.strip() if isinstance(holds, str) else holds
    if form.task == "classification":
        if form.several:
            return [every[i] for i in holds or ()]
        if holds is None:
            raise InputError("no label is chosen.", hint="Choose one, or go on to the next row.")
        return every[holds]
    if form.task == "qa":
        if not holds:
            return None
        start, end = holds[0]["start"], holds[0]["end"]
        return {"start": start, "end": end, "text": text_of(form, row)[start:end]}
    return [{**one, "label": every[one["label"]]} for one in holds or ()]


def is_held(form: TargetForm, labels: Labels, holds: Any, row: Row) -> bool:
    """Whether this, which a browser kept, is something that the editor could hold for this row."""
    count = len(labels.every)

    def number(value: Any) -> bool:
        return type(value) is int and 0 <= value < count

    if form.task == "regression":
        return isinstance(holds, str) and len(holds) < 1000
    if form.task == "classification" and not form.several:
        return holds is None or number(holds)
    if not isinstance(holds, list):
        return False
    if form.task == "classification":
        return all(map(number, holds))
    if form.task in OF_TEXT:
        most = len(text_of(form, row))
        return all(
            isinstance(one, dict) and type(one.get("start")) is int and type(one.get("end")) is int
            and 0 <= one["start"] < one["end"] <= most and (form.task == "qa" or number(one.get("label")))
            for one in holds
        )  # fmt: skip
    return all(isinstance(one, dict) and number(one.get("label")) and _is_box(one.get("box")) for one in holds)


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(
        isinstance(side, int | float) and not isinstance(side, bool) and math.isfinite(side) for side in box
    )  # fmt: skip


def confidence_of(reply: Reply | None, target: str) -> float | None:
    """The model's confidence in its answer, of several spans or boxes that in the least certain; None where it says
    none.
    """
    if not reply:
        return None
    known = (reply.get("probability") or {}).get(target)
    if isinstance(known, int | float) and math.isfinite(known):
        return float(known)
    found = (reply.get("prediction") or {}).get(target)
    parts = [one.get("probability") for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []
    numbers = [float(one) for one in parts if isinstance(one, int | float) and math.isfinite(one)]
    return min(numbers, default=None)


def abstained(reply: Reply | None, target: str) -> bool:
    """Whether the model withheld this answer."""
    reply = reply or {}
    return bool(reply.get("abstained")) and target in (reply.get("abstained_targets") or [target])


def answer_of(reply: Reply | None, target: str) -> dict[str, Any]:
    """What is kept of the model's answer beside a correction."""
    reply = reply or {}
    return {name: (reply.get(name) or {}).get(target) for name in ("prediction", "probability")}


def lines_of(form: TargetForm, value: Any) -> list[str]:
    """A value in words, a line per label, span or box; empty where there is nothing."""
    if value is None or is_missing(value):
        return []
    if form.task == "regression":
        return [number_text(value, 6, grouped=False) if isinstance(value, float) else str(value)]
    if form.task == "classification":
        return [category_name(label) for label in value] if form.several and isinstance(value, list) else [
            category_name(value)
        ]  # fmt: skip
    if form.task == "qa":
        return [_short(value["text"])] if isinstance(value, Mapping) and value.get("start") is not None else []
    if not isinstance(value, list):
        return [_short(str(value))]
    if form.task == "detection":
        return [f"{one['label']}  {', '.join(f'{side:.6g}' for side in one['box'])}" for one in value]
    return [f"{one['label']}  {_short(one.get('text', ''))}" for one in value]


def _short(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 1]}…"


def excerpt(row: Row, columns: Sequence[str] = (), *, most: int = 120) -> str:
    """A row in one line, by which it is known again."""
    parts: list[str] = []
    for name in columns or row:
        value = row.get(name)
        if value is None or isinstance(value, bytes):
            continue
        if isinstance(value, list | tuple) and any(isinstance(one, bytes | Mapping) for one in value):
            continue
        said = " ".join(value) if isinstance(value, list) and all(isinstance(w, str) for w in value) else str(value)
        parts.append(" ".join(said[: 4 * most].split()))
    line = " · ".join(parts)
    return line if len(line) <= most else f"{line[: most - 1]}…"


def correctable(info: Any, targets: Sequence[str]) -> tuple[dict[str, TargetForm], list[str]]:
    """The targets whose answers are corrected by hand, and why others are not."""
    forms: dict[str, TargetForm] = {}
    messages: list[str] = []
    for target in targets:
        try:
            forms[target] = TargetForm.of(info, target)
        except PolydetrError as error:
            messages.append(error.message)
    return forms, messages
