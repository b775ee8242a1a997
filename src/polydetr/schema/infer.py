"""Which column is read as what, and which is predicted by which task: given by the user, or inferred from a sample
of rows.

Every decision that a user might want to reverse is a sentence in ``Schema.messages``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from polydetr.core.access import SAY_IMAGES
from polydetr.errors import SchemaError, nearest
from polydetr.schema.columns import MIN_ROWS, determines, infer_modality, may_name_images, numbers_of
from polydetr.schema.spec import FieldSpec, Schema, TargetSpec
from polydetr.values.cells import is_missing

USUAL_TARGETS = ("objects", "tags", "entities", "answers", "label", "labels", "category", "class", "target", "intent",
                 "sentiment", "polarity", "ner_tags", "y")  # fmt: skip
"""Names that a target usually bears, the likeliest first; tried when none is given."""

REST = "*"
"""Stands, among the inputs, for all columns that are not named."""
FEW_NUMBERS = 20
"""At most so many distinct whole numbers are classes; more are a quantity."""


def infer_schema(
    sample_rows: Sequence[Mapping[str, Any]],
    *,
    targets: Mapping[str, str | None] | None = None,
    inputs: Mapping[str, str | None] | None = None,
    needs_target: bool = True,
) -> Schema:
    """The schema of the data that ``sample_rows`` stand for.

    Args:
        sample_rows: some thousand rows are plenty.
        targets: column → task, or None to infer the task; no mapping at all: a column of a usual name is taken.
        inputs: column → modality, or None to infer it. When given these are the only inputs, in this order; with
            ``REST`` among them, or where all of them are to be ignored, every other column is read as well.
        needs_target: False where the rows are only looked at: there may then be nothing to predict.

    Raises:
        SchemaError: no rows, a column that is not there, an unknown modality or task, a target without values or
        that no task can predict, no input left.
    """
    columns = _columns(sample_rows)
    if not columns:
        raise SchemaError("there are no rows to infer the columns from.")
    messages: list[str] = []
    wanted = dict(targets) if targets else _usual_target(list(columns), messages, needed=needs_target)
    named = {name: modality for name, modality in (inputs or {}).items() if name != REST}
    for name in [*wanted, *named]:
        if name not in columns:
            listed = ", ".join(map(repr, list(columns)[:20]))
            raise SchemaError(f"there is no column {name!r}; the columns are {listed}.", hint=nearest(name, columns))
    both = [n for n in wanted if n in named]
    if both:
        raise SchemaError(f"column {both[0]!r} is both an input and a target.")
    chosen = tuple(TargetSpec(name, task or infer_task(name, sample_rows, messages)) for name, task in wanted.items())
    if named and REST not in (inputs or {}) and set(named.values()) != {"ignore"}:
        fields = tuple(_named_field(name, modality, columns[name]) for name, modality in named.items())
    else:
        fields = _infer_inputs(columns, chosen, sample_rows, messages, named)
    doubts = _unopened_images(columns, fields, named)
    messages += doubts
    if chosen and all(f.modality == "ignore" for f in fields):
        raise SchemaError(
            f"no column is left to predict {', '.join(repr(t.name) for t in chosen)} from.",
            hint=" ".join(["Name the inputs: inputs={'column': 'text'} (--input column:text).", *doubts]),
        )
    return Schema(fields, chosen, tuple(messages))


def _unopened_images(
    columns: Mapping[str, list[Any]], fields: Sequence[FieldSpec], named: Mapping[str, str | None]
) -> list[str]:
    """A sentence for each column that may hold names of images, where no image is read."""
    if any(field.modality == "image" for field in fields):
        return []
    return [
        f"Column {f.name!r} may hold names of images, without suffix: to have them opened, say {f.name}:image "
        f"(--input {f.name}:image, inputs={{{f.name!r}: 'image'}}) and where they lie: {SAY_IMAGES}."
        for f in fields
        if f.name not in named and may_name_images(f.name, columns[f.name])
    ]


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Column → its values that are not missing, in the order in which columns first appear."""
    columns: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            values = columns.setdefault(name, [])
            if not is_missing(value):
                values.append(value)
    return columns


def _usual_target(columns: list[str], messages: list[str], *, needed: bool) -> dict[str, str | None]:
    """The column to predict where none was named. Raises SchemaError where there is none and one is ``needed``."""
    lowered = {c.lower(): c for c in reversed(columns)}
    target = next((lowered[name] for name in USUAL_TARGETS if name in lowered), None)
    if target is None and not needed:
        messages.append("No column to predict was named, and none bears a usual name: name it with target= (--target).")
        return {}
    if target is None:
        raise SchemaError(
            f"no target was named, and none bears a usual name; the columns are {', '.join(map(repr, columns[:20]))}.",
            hint="Name the column to predict: target='...' (--target ...).",
        )
    messages.append(f"No target was named: {target!r} is taken.")
    return {target: None}


# -- targets --------------------------------------------------------------------------------------------------------


def infer_task(name: str, rows: Sequence[Mapping[str, Any]], messages: list[str]) -> str:
    """The task that predicts column ``name``; doubts go to ``messages``. Raises SchemaError where none fits."""
    values = [row[name] for row in rows if not is_missing(row.get(name))]
    if not values:
        raise SchemaError(f"target {name!r} is missing in every row.", hint="Name the column that holds the labels.")
    lists = [v for v in values if isinstance(v, (list, tuple))]
    if lists:
        return _task_of_lists(name, lists, rows, messages)
    if isinstance(values[0], Mapping):
        messages.append(f"Target {name!r} holds objects: rows are embedded near theirs.")
        return "embedding"
    distinct = len({str(v) for v in values})
    if (numbers := numbers_of(name, values)) is not None:
        if all(number.is_integer() for number in numbers) and distinct <= FEW_NUMBERS:
            how = f"say {name}:regression otherwise"
            messages.append(f"Target {name!r}: {distinct} distinct whole numbers are read as classes ({how}).")
            return "classification"
        return "regression"
    if len(values) >= 2 * MIN_ROWS and distinct > 0.5 * len(values):
        raise SchemaError(
            f"target {name!r} has {distinct} distinct values in {len(values)} rows, which is text rather than classes.",
            hint=f"If they are classes, say {name}:classification; to find them by search, {name}:embedding.",
        )
    return "classification"


def _task_of_lists(name: str, lists: list[Any], rows: Sequence[Mapping[str, Any]], messages: list[str]) -> str:
    """The task by the first item: objects, spans, answers, one tag per token, or several labels per row."""
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
            return _task_of_spans(name, items, messages)
        if "text" in first:
            return "qa"
        raise SchemaError(
            f"target {name!r} holds lists of {first!r:.80}.",
            hint="Expected {box, label} (objects), {start, end, label} (spans) or {text, start} (answers).",
        )
    if isinstance(first, (list, tuple)) and len(first) == 3:
        return _task_of_spans(name, items, messages)
    if isinstance(first, str) and any(_one_each(name, row) for row in rows):
        return "tagging"
    return "classification"  # several labels per row


def _one_each(name: str, row: Mapping[str, Any]) -> bool:
    """True where the row has "tokens", and column ``name`` one value per token."""
    tokens = row.get("tokens")
    return isinstance(tokens, (list, tuple)) and len(tokens) == len(row.get(name) or ())


def _task_of_spans(name: str, items: list[Any], messages: list[str]) -> str:
    """ "tagging"; "entities" where spans overlap, which cannot all become one tag per word."""
    overlapping = 0
    for spans in items:
        whole = [s for s in spans if not isinstance(s, Mapping) or {"start", "end"} <= s.keys()]
        ends = sorted((s["start"], s["end"]) if isinstance(s, Mapping) else (s[0], s[1]) for s in whole)
        overlapping += any(later[0] < earlier[1] for earlier, later in pairwise(ends))
    if not overlapping:
        return "tagging"
    messages.append(
        f"Target {name!r}: spans overlap in {overlapping} of {len(items)} rows, so they are found as a set "
        f"({name}:tagging would keep the outer ones alone)."
    )
    return "entities"


# -- inputs ---------------------------------------------------------------------------------------------------------


def _named_field(name: str, modality: str | None, values: list[Any]) -> FieldSpec:
    """A column that the user named: never left out unless that was asked for."""
    if modality is None:
        inferred = infer_modality(name, values)[0]
        modality = "text" if inferred == "ignore" else inferred
    return FieldSpec(name, modality)


def _infer_inputs(
    columns: Mapping[str, list[Any]],
    targets: Sequence[TargetSpec],
    rows: Sequence[Mapping[str, Any]],
    messages: list[str],
    chosen: Mapping[str, str | None],
) -> tuple[FieldSpec, ...]:
    """All columns but the targets; ``chosen``: columns whose modality the user named (None: to be inferred)."""
    named = {t.name for t in targets}
    tasks = {t.task for t in targets}
    if "qa" in tasks and {"question", "context"} <= columns.keys():
        return _only(["question", "context"], columns, named)
    by_token = tasks & {"tagging", "entities"} and "tokens" in columns
    if by_token and any(_one_each(t.name, row) for t in targets for row in rows):
        return _only(["tokens"], columns, named)
    inferred = {name: infer_modality(name, values) for name, values in columns.items() if name not in named}
    modalities = {name: modality for name, (modality, _) in inferred.items()}
    if not {"text", "image", "history", "number"} & set(modalities.values()):
        _promote(modalities, columns)
    fields = []
    for name, modality in modalities.items():
        if name in chosen:
            fields.append(_named_field(name, chosen[name], columns[name]))
            continue
        reason = inferred[name][1] or _reason_to_ignore(name, modalities, targets, rows)
        if reason:
            messages.append(f"Column {name!r} is left out: {reason}.")
        fields.append(FieldSpec(name, "ignore" if reason else modality))
    return tuple(fields)


def _reason_to_ignore(
    name: str, modalities: Mapping[str, str], targets: Sequence[TargetSpec], rows: Sequence[Mapping[str, Any]]
) -> str:
    """Why a column that could be read is left out all the same; "" where it is not."""
    modality, tasks = modalities[name], {t.task for t in targets}
    if modality in ("category", "number"):
        for target in targets:
            if target.task == "classification" and determines(name, target.name, rows):
                return f"each of its values goes with one {target.name!r} only, so it gives the answer away"
    if tasks == {"detection"}:
        # Readers of boxes call the image "image"; "image_id" may be its path once more.
        wanted = name == "image" if modalities.get("image") == "image" else modality == "image"
        return "" if wanted else "detection reads the image alone, unless an input is named"
    pointing = tasks & {"tagging", "qa", "entities"}
    if pointing and modality != "text" and not (modality == "image" and "detection" in tasks):
        return f"{min(pointing)} reads the text alone, unless an input is named"
    return ""


def _only(wanted: list[str], columns: Mapping[str, list[Any]], named: set[str]) -> tuple[FieldSpec, ...]:
    """Those columns as texts; all others but the targets (``named``) are left out."""
    rest = [c for c in columns if c not in wanted and c not in named]
    return (*(FieldSpec(c, "text") for c in wanted), *(FieldSpec(c, "ignore") for c in rest))


def _promote(modalities: dict[str, str], columns: Mapping[str, list[Any]]) -> None:
    """Without any text, the column of the longest strings is the text: short texts look like categories."""
    strings = [n for n, m in modalities.items() if m == "category" and isinstance(columns[n][0], str)]
    if strings:
        longest = max(strings, key=lambda n: sum(len(str(v)) for v in columns[n]) / len(columns[n]))
        modalities[longest] = "text"
