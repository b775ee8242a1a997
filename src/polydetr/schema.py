"""Which column is read as what, and which is predicted by which task: given by the user, or inferred from a sample
of rows.

Inference prefers to say too much: every decision that a user might want to reverse is a sentence in ``Schema.notes``.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal, get_args

from polydetr.errors import SchemaError, did_you_mean

Modality = Literal["text", "number", "category", "image", "history", "date", "ignore"]
MODALITIES: tuple[str, ...] = get_args(Modality)
TASKS = ("classification", "regression", "tagging", "qa", "generation", "embedding", "detection")
LATER_TASKS = ("entities",)
USUAL_TARGETS = ("objects", "tags", "entities", "answers", "label", "labels", "category", "class", "target", "intent",
                 "sentiment", "polarity", "ner_tags", "y")  # fmt: skip
"""Names that a target usually bears, the likeliest first; tried when none is given."""

FEW_NUMBERS = 20
"""At most so many distinct whole numbers are classes; more are a quantity."""
_MIN_ROWS = 20  # below this, ratios say nothing
_ID_NAME = re.compile(r"(?:.*[_\s-])?(?:id|uuid|guid|index|idx)|unnamed.*|.*[a-z]I[dD]|column_1", re.IGNORECASE)
_ID_VALUE = re.compile(r"(?=.*\d)[A-Za-z0-9_:./#-]{1,64}")
_DATE = re.compile(r"\d{4}[-/.年]\d{1,2}(?:[-/.月]\d{1,2}日?)?(?:[T ]\d{1,2}:\d{2}.*)?")
_IMAGE = re.compile(r".+\.(?:jpe?g|png|webp|bmp|gif|tiff?)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """An input column and how it is read; "ignore": known, and left out."""

    name: str
    modality: str

    def __post_init__(self) -> None:
        if self.modality not in MODALITIES:
            hint = did_you_mean(self.modality, MODALITIES)
            raise SchemaError(f"column {self.name!r}: unknown modality {self.modality!r}.", hint=hint)


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """A column to predict and the task that does it. Tasks of outside packages are let through; the model checks
    them.
    """

    name: str
    task: str


@dataclass(frozen=True, slots=True)
class Schema:
    """Inputs in their reading order, targets, and what a user should know about how they were chosen."""

    inputs: tuple[FieldSpec, ...]
    targets: tuple[TargetSpec, ...]
    notes: tuple[str, ...] = field(default=(), compare=False)

    def names(self, modality: str) -> list[str]:
        """The input columns of one modality, in order."""
        return [f.name for f in self.inputs if f.modality == modality]

    def to_dict(self) -> dict[str, Any]:
        return {
            "inputs": [{"name": f.name, "modality": f.modality} for f in self.inputs],
            "targets": [{"name": t.name, "task": t.task} for t in self.targets],
            "notes": list(self.notes),
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Schema:
        """Raises SchemaError where a key is missing or of another kind."""
        try:
            inputs = tuple(FieldSpec(f["name"], f["modality"]) for f in data["inputs"])
            targets = tuple(TargetSpec(t["name"], t["task"]) for t in data["targets"])
            return cls(inputs, targets, tuple(data.get("notes", ())))
        except (KeyError, TypeError, AttributeError) as error:
            raise SchemaError(f"not a schema: {error!r}. Expected inputs, targets and notes.") from None

    @classmethod
    def from_json(cls, text: str) -> Schema:
        try:
            return cls.from_dict(json.loads(text))
        except json.JSONDecodeError as error:
            raise SchemaError(f"the schema is not JSON: {error}.") from None


def parse_target(text: str) -> tuple[str, str | None]:
    """``"label:classification"`` → ("label", "classification"); ``"label"`` → ("label", None).

    Only a known task after the last colon counts, so that a column may hold a colon in its name; a misspelt one is
    an error.
    """
    name, colon, task = text.rpartition(":")
    if not colon or not name:
        return text.rstrip(":"), None
    return name, _known_task(name, task)


def _known_task(name: str, task: str) -> str:
    if task in TASKS:
        return task
    if task in LATER_TASKS:
        hint = f"Now: {', '.join(TASKS)}."
        raise SchemaError(f"target {name!r}: the task {task!r} comes with a later version.", hint=hint)
    raise SchemaError(f"target {name!r}: unknown task {task!r}.", hint=did_you_mean(task, TASKS))


def infer_schema(
    sample_rows: Sequence[Mapping[str, Any]],
    *,
    targets: Mapping[str, str | None] | None = None,
    inputs: Mapping[str, str | None] | None = None,
) -> Schema:
    """The schema of the data that ``sample_rows`` stand for.

    Args:
        sample_rows: some thousand rows are plenty.
        targets: column → task, or None to infer the task; no mapping at all: a column of a usual name is taken.
        inputs: column → modality, or None to infer it. When given these are the only inputs, in this order.

    Raises:
        SchemaError: no rows, a column that is not there, an unknown modality or task, a target without values or
        that no task can predict, no input left.
    """
    columns = _columns(sample_rows)
    if not columns:
        raise SchemaError("there are no rows to infer the columns from.")
    notes: list[str] = []
    wanted = dict(targets) if targets else {_usual_target(list(columns), notes): None}
    for name in [*wanted, *(inputs or {})]:
        if name not in columns:
            listed = ", ".join(map(repr, list(columns)[:20]))
            raise SchemaError(f"there is no column {name!r}; the columns are {listed}.", hint=_near(name, columns))
    both = [n for n in wanted if n in (inputs or {})]
    if both:
        raise SchemaError(f"column {both[0]!r} is both an input and a target.")
    chosen = tuple(
        TargetSpec(name, _known_task(name, task) if task else infer_task(name, sample_rows, notes))
        for name, task in wanted.items()
    )
    fields = _given_inputs(inputs, columns) if inputs else _infer_inputs(columns, chosen, sample_rows, notes)
    if all(f.modality == "ignore" for f in fields):
        raise SchemaError(
            f"no column is left to predict {', '.join(repr(t.name) for t in chosen)} from.",
            hint="Name the inputs: inputs={'column': 'text'} (--input column:text).",
        )
    return Schema(fields, chosen, tuple(notes))


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Column → its values that are not missing, in the order in which columns first appear."""
    columns: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            values = columns.setdefault(name, [])
            if not _absent(value):
                values.append(value)
    return columns


def _absent(value: Any) -> bool:
    return (
        value is None or (isinstance(value, float) and value != value) or (isinstance(value, str) and not value.strip())
    )


def _near(name: str, columns: Mapping[str, Any]) -> str | None:
    hint = did_you_mean(name, columns)
    return hint if hint.startswith("Did") else None


def _usual_target(columns: list[str], notes: list[str]) -> str:
    lowered = {c.lower(): c for c in reversed(columns)}
    found = next((lowered[name] for name in USUAL_TARGETS if name in lowered), None)
    if found is None:
        raise SchemaError(
            f"no target was named, and none bears a usual name; the columns are {', '.join(map(repr, columns[:20]))}.",
            hint="Name the column to predict: target='...' (--target ...).",
        )
    notes.append(f"No target was named: {found!r} is taken.")
    return found


# -- targets --------------------------------------------------------------------------------------------------------


def infer_task(name: str, rows: Sequence[Mapping[str, Any]], notes: list[str]) -> str:
    """The task that predicts column ``name``; doubts go to ``notes``. Raises SchemaError where none fits."""
    values = [row[name] for row in rows if not _absent(row.get(name))]
    if not values:
        raise SchemaError(f"target {name!r} is missing in every row.", hint="Name the column that holds the labels.")
    lists = [v for v in values if isinstance(v, (list, tuple))]
    if lists:
        return _task_of_lists(name, lists, rows, notes)
    if isinstance(values[0], Mapping):
        notes.append(f"Target {name!r} holds objects: rows are embedded near theirs.")
        return "embedding"
    numbers = [_number(v) for v in values]
    distinct = len({str(v) for v in values})
    if all(n is not None for n in numbers) and not any(isinstance(v, bool) for v in values):
        whole = all(float(n).is_integer() for n in numbers if n is not None)
        if whole and distinct <= FEW_NUMBERS:
            how = f"say {name}:regression otherwise"
            notes.append(f"Target {name!r}: {distinct} distinct whole numbers are read as classes ({how}).")
            return "classification"
        return "regression"
    if len(values) >= 2 * _MIN_ROWS and distinct > 0.5 * len(values):
        raise SchemaError(
            f"target {name!r} has {distinct} distinct values in {len(values)} rows, which is text rather than classes.",
            hint=f"If they are classes, say {name}:classification; to find them by search, {name}:embedding.",
        )
    return "classification"


def _task_of_lists(name: str, lists: list[Any], rows: Sequence[Mapping[str, Any]], notes: list[str]) -> str:
    items = [v for v in lists if v]
    first = items[0][0] if items else None
    if first is None:
        by_name = {"answers": "qa", "entities": "tagging", "tags": "tagging", "objects": "detection"}
        if name in by_name:
            return by_name[name]
        raise SchemaError(f"target {name!r} holds nothing but empty lists.")
    if isinstance(first, Mapping):
        if {"box", "label"} <= first.keys():
            return "detection"
        if {"start", "end"} <= first.keys():
            _note_nested(name, items, notes)
            return "tagging"
        if "text" in first:
            return "qa"
        raise SchemaError(
            f"target {name!r} holds lists of {first!r:.80}.",
            hint="Expected {box, label} (objects), {start, end, label} (spans) or {text, start} (answers).",
        )
    if isinstance(first, (list, tuple)) and len(first) == 3:
        _note_nested(name, items, notes)
        return "tagging"
    if isinstance(first, str) and any(_one_each(name, row) for row in rows):
        return "tagging"
    return "classification"  # several labels a row


def _one_each(name: str, row: Mapping[str, Any]) -> bool:
    tokens = row.get("tokens")
    return isinstance(tokens, (list, tuple)) and len(tokens) == len(row.get(name) or ())


def _note_nested(name: str, items: list[Any], notes: list[str]) -> None:
    """Spans inside one another cannot all become one tag a word."""
    rows_nested = 0
    for spans in items:
        whole = [s for s in spans if not isinstance(s, Mapping) or {"start", "end"} <= s.keys()]
        ends = sorted((s["start"], s["end"]) if isinstance(s, Mapping) else (s[0], s[1] + 1) for s in whole)
        rows_nested += any(later[0] < earlier[1] for earlier, later in pairwise(ends))
    if rows_nested:
        notes.append(
            f"Target {name!r}: spans overlap in {rows_nested} of {len(items)} rows. Tagging keeps the outer one; "
            "nested entities come with a later version."
        )


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


# -- inputs ---------------------------------------------------------------------------------------------------------


def _given_inputs(inputs: Mapping[str, str | None], columns: Mapping[str, list[Any]]) -> tuple[FieldSpec, ...]:
    fields = []
    for name, modality in inputs.items():
        found = modality or infer_modality(name, columns[name])[0]
        if found == "ignore" and not modality:
            found = "text"  # asked for by name: never left out
        fields.append(FieldSpec(name, found))
    return tuple(fields)


def _infer_inputs(
    columns: Mapping[str, list[Any]], targets: Sequence[TargetSpec], rows: Sequence[Mapping[str, Any]], notes: list[str]
) -> tuple[FieldSpec, ...]:
    named = {t.name for t in targets}
    tasks = {t.task for t in targets}
    if "qa" in tasks and {"question", "context"} <= columns.keys():
        return _only(["question", "context"], columns, named)
    if "tagging" in tasks and "tokens" in columns and any(_one_each(t.name, row) for t in targets for row in rows):
        return _only(["tokens"], columns, named)
    found = {name: infer_modality(name, values) for name, values in columns.items() if name not in named}
    reasons = {name: reason for name, (_, reason) in found.items()}
    fields = [FieldSpec(name, modality) for name, (modality, _) in found.items()]
    if not any(f.modality in ("text", "image", "history", "number") for f in fields):
        fields = _promote(fields, columns, reasons)
    classes = [t.name for t in targets if t.task == "classification"]
    for i, f in enumerate(fields):
        told = [t for t in classes if f.modality in ("category", "number") and determines(f.name, t, rows)]
        if told:
            fields[i] = replace(f, modality="ignore")
            reasons[f.name] = f"each of its values goes with one {told[0]!r} only, so it gives the answer away"
    if tasks == {"detection"}:
        for i, f in enumerate(fields):
            if f.modality not in ("image", "ignore"):
                fields[i] = replace(f, modality="ignore")
                reasons[f.name] = "detection reads the picture alone, unless an input is named"
    pointing = tasks & {"tagging", "qa"}
    for i, f in enumerate(fields):
        if pointing and f.modality not in ("text", "ignore"):
            fields[i] = replace(f, modality="ignore")
            reasons[f.name] = f"{min(pointing)} reads the text alone, unless an input is named"
    for f in fields:
        if f.modality == "ignore":
            notes.append(f"Column {f.name!r} is left out: {reasons[f.name]}.")
    return tuple(fields)


def _only(wanted: list[str], columns: Mapping[str, list[Any]], named: set[str]) -> tuple[FieldSpec, ...]:
    rest = [c for c in columns if c not in wanted and c not in named]
    return (*(FieldSpec(c, "text") for c in wanted), *(FieldSpec(c, "ignore") for c in rest))


def _promote(fields: list[FieldSpec], columns: Mapping[str, list[Any]], reasons: Mapping[str, str]) -> list[FieldSpec]:
    """Without any text, the column of the longest strings is the text: short texts look like categories."""
    strings = [
        f.name for f in fields
        if f.modality == "category" and not reasons[f.name] and columns[f.name] and isinstance(columns[f.name][0], str)
    ]  # fmt: skip
    if not strings:
        return fields
    longest = max(strings, key=lambda n: sum(len(str(v)) for v in columns[n]) / len(columns[n]))
    return [replace(f, modality="text") if f.name == longest else f for f in fields]


def infer_modality(name: str, values: Sequence[Any]) -> tuple[str, str]:
    """The modality of an input column from its values that are not missing, and why it is to be ignored ("" if it is
    not).
    """
    if not values:
        return "ignore", "it has no values"
    first = values[0]
    shape = getattr(first, "__array_interface__", {}).get("shape", ())  # of NumPy and PIL
    if len(shape) > 1:
        return "image", ""
    if shape:  # a column of lists, as Parquet and pandas give it
        first = list(first)
    if isinstance(first, (list, tuple)):
        return ("text", "") if name == "tokens" and isinstance(first[0] if first else "", str) else ("history", "")
    if isinstance(first, (bytes, bytearray)):
        return "image", ""
    if isinstance(first, Mapping):
        return "ignore", "it holds objects"
    words = [str(v) for v in values]
    distinct = len(set(words))
    if distinct == 1 and len(words) >= 5:
        return "ignore", f"every row has the same value {words[0]!r:.40}"
    unique = distinct == len(words) and len(words) >= _MIN_ROWS
    if all(_number(v) is not None for v in values) and not isinstance(first, bool):
        if any(re.fullmatch(r"0\d+", w) for w in words):  # 002756 is a code
            return "category", ""
        whole = all(re.fullmatch(r"\d+", w) for w in words)
        return ("ignore", "it numbers the rows") if unique and whole and _ID_NAME.fullmatch(name) else ("number", "")
    if hasattr(first, "isoformat") or _mostly(_DATE, words):
        return "date", ""
    if _mostly(_IMAGE, words):
        return "image", ""
    if unique and (_mostly(_ID_VALUE, words) or (_ID_NAME.fullmatch(name) and not any(" " in w for w in words))):
        return "ignore", "every row has an identifier of its own"
    few = len(words) >= _MIN_ROWS and distinct <= 0.2 * len(words)
    return ("category", "") if few and sum(map(len, words)) / len(words) <= 30 else ("text", "")


def _mostly(pattern: re.Pattern[str], words: Sequence[str]) -> bool:
    return sum(pattern.fullmatch(w) is not None for w in words) >= 0.9 * len(words)


def determines(column: str, target: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """True if the column determines the target and is not merely fine-grained: as many values as labels, up to a
    half more.
    """
    pairs = Counter(
        (str(r[column]), str(r[target])) for r in rows if not _absent(r.get(column)) and not _absent(r.get(target))
    )
    values, labels = {v for v, _ in pairs}, {label for _, label in pairs}
    enough = pairs.total() >= max(_MIN_ROWS, 3 * len(labels))
    return enough and len(labels) > 1 and len(pairs) == len(values) <= 1.5 * len(labels)
