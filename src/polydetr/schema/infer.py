"""Which column is read as what, and which is predicted by which task: given by the user, or inferred from a sample
of rows.

Every decision that a user might want to reverse is a sentence in ``Schema.messages``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from polydetr.core.reading import SAY_IMAGES
from polydetr.errors import RowError, SchemaError, listed, nearest, quoted
from polydetr.schema.columns import (
    MIN_ROWS,
    determines,
    holds_codes,
    holds_words,
    infer_modality,
    may_name_images,
    numbers_of,
    typical,
)
from polydetr.schema.doubts import labels_alike
from polydetr.schema.lists import find_lists
from polydetr.schema.spec import FieldSpec, Schema, TargetSpec
from polydetr.schema.words import beside, check_spans, words_column
from polydetr.values.cells import MOST, is_missing, says_missing
from polydetr.values.lists import ListColumn, read_lists
from polydetr.values.tags import BARE_LABEL, mark_spans, types_of

USUAL_TARGETS = ("objects", "tags", "entities", "answers", "label", "labels", "category", "class", "target", "intent",
                 "sentiment", "polarity", "ner_tags", "y")  # fmt: skip
"""Names that a target usually bears, the likeliest first; tried when none is given."""

REST = "*"
"""Stands, among the inputs, for all columns that are not named."""
FEW_NUMBERS = 20
"""At most so many distinct whole numbers are classes; more are a quantity."""
CLASS_NAMES = ("label", "labels", "category", "class", "intent")
"""Names of targets whose whole numbers are classes however many there are, as long as each comes back."""


def infer_schema(
    sample_rows: Sequence[Mapping[str, Any]],
    *,
    targets: Mapping[str, str | None] | None = None,
    inputs: Mapping[str, str | None] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    declared: Mapping[str, str] | None = None,
    needs_target: bool = True,
) -> Schema:
    """The schema of the data that ``sample_rows`` stand for.

    Args:
        sample_rows: some thousand rows are plenty.
        targets: column → task, or None to infer the task; no mapping at all: a column of a usual name is taken.
        inputs: column → modality, or None to infer it. When given these are the only inputs, in this order; with
            ``REST`` among them, or where all of them are to be ignored, every other column is read as well.
        options: those of the targets, column → option → value (``tasks.<target>`` of the configuration).
        declared: column → what its type in a data frame or a Parquet file says it is ("category").
        needs_target: False where the rows are only looked at: there may then be nothing to predict.

    Raises:
        SchemaError: no rows, a column that is not there, an unknown modality or task, a target without values or
        that no task can predict, no input left.
    """
    columns, declared = _columns(sample_rows), declared or {}
    if not columns:
        raise SchemaError("there are no rows to infer the columns from.")
    messages: list[str] = []
    options = options or {}
    wanted = dict(targets) if targets else _usual_target(list(columns), messages, needed=needs_target)
    named = {name: modality for name, modality in (inputs or {}).items() if name != REST}
    for name in [*wanted, *named]:
        if name not in columns:
            known = listed(columns)
            raise SchemaError(
                f"there is no column {quoted(name)}; the columns are {known}.", hint=nearest(name, columns)
            )
    both = [n for n in wanted if n in named]
    if both:
        raise SchemaError(f"column {both[0]!r} is both an input and a target.")
    lists = find_lists(sample_rows, targets=wanted, inputs=inputs or {}, options=options, messages=messages)
    written, sample_rows = sample_rows, list(_with_lists(sample_rows, lists))
    columns = _columns(sample_rows)
    by_words = {name for name, column in lists.items() if column.form == "blanks" and not column.places}
    chosen = tuple(
        TargetSpec(
            name,
            task
            or ("tagging" if name in by_words else None)
            or infer_task(name, sample_rows, messages, is_category=name in declared),
        )
        for name, task in wanted.items()
    )
    lists |= _with_empty_cells(chosen, lists, written, options, messages)
    for target in chosen:
        if target.task == "classification":
            messages += labels_alike(target.name, columns.get(target.name, ()))
        if target.task in ("tagging", "entities"):
            check_spans(target.name, sample_rows)
    words = _words_of(chosen, sample_rows)
    if words in named and named[words] is None:
        named[words] = "text"
    if named and REST not in (inputs or {}) and set(named.values()) != {"ignore"}:
        fields = tuple(_named_field(n, modality, columns[n], declared.get(n)) for n, modality in named.items())
    elif words is not None:
        fields = _only([words], columns, set(wanted))
    else:
        fields = _infer_inputs(columns, chosen, sample_rows, messages, named, declared)
    doubts = _unopened_images(columns, fields, named)
    messages += doubts
    if chosen and all(f.modality == "ignore" for f in fields):
        raise _nothing_left(chosen, fields, columns, messages, doubts)
    return Schema(fields, chosen, tuple(messages), lists)


def _with_lists(rows: Sequence[Mapping[str, Any]], lists: Mapping[str, ListColumn]) -> Iterator[Mapping[str, Any]]:
    """The rows with their lists read, without those that cannot be: the run refuses them, with their place."""
    for row in rows:
        with suppress(RowError):
            yield read_lists(row, lists)


def _with_empty_cells(
    targets: Sequence[TargetSpec],
    lists: Mapping[str, ListColumn],
    rows: Sequence[Mapping[str, Any]],
    options: Mapping[str, Mapping[str, Any]],
    messages: list[str],
) -> dict[str, ListColumn]:
    """The columns of several labels per row, in which an empty cell is a row without a label, as it is said here."""
    several = {}
    for target in targets:
        asked = options.get(target.name, {}).get("multi_label")
        if target.task == "classification" and (asked or (asked is None and target.name in lists)):
            several[target.name] = replace(lists.get(target.name, ListColumn("|")), empty=True)
            blank = sum(isinstance(value := row.get(target.name), str) and not value.strip() for row in rows)
            if blank:
                count = f"{blank} of the {len(rows)} rows looked at"
                messages.append(f"Target {target.name!r} is an empty cell in {count}: they have no label.")
    return several


def _words_of(targets: Sequence[TargetSpec], rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The column of ready-made words, where a target has one label for each of them."""
    columns = (words_column(t.name, rows) for t in targets if t.task in ("tagging", "entities"))
    return next((column for column in columns if column), None)


def _nothing_left(
    targets: Sequence[TargetSpec],
    fields: Sequence[FieldSpec],
    columns: Mapping[str, list[Any]],
    messages: Sequence[str],
    doubts: Sequence[str],
) -> SchemaError:
    """The error where every column is left out: why each of them is, and how to keep one."""
    reasons = " ".join(message for message in messages if message.startswith("Column ") and message not in doubts)
    told = [f.name for f in fields if len(set(map(str, columns[f.name]))) > 1]
    name = told[0] if told else "column"
    kind = _readable_as(name, columns[name]) if told else "text"
    return SchemaError(
        f"no column is left to predict {', '.join(repr(t.name) for t in targets)} from. {reasons}".strip(),
        hint=" ".join([f"Name the inputs: inputs={{{name!r}: {kind!r}}} (--input {name}:{kind}).", *doubts]),
    )


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
            f"no target was named, and none bears a usual name; the columns are {listed(columns)}.",
            hint="Name the column to predict: target='...' (--target ...).",
        )
    messages.append(f"No target was named: {target!r} is taken.")
    return {target: None}


# -- targets --------------------------------------------------------------------------------------------------------


def infer_task(name: str, rows: Sequence[Mapping[str, Any]], messages: list[str], *, is_category: bool = False) -> str:
    """The task that predicts column ``name``; doubts go to ``messages``. is_category: its type says that it holds
    classes. Raises SchemaError where none fits.
    """
    values = [row[name] for row in rows if not is_missing(row.get(name))]
    if not values:
        raise SchemaError(f"target {name!r} is missing in every row.", hint="Name the column that holds the labels.")
    lists = [list(v) for v in values if isinstance(v, (list, tuple, np.ndarray))]
    if len(lists) > len(values) / 2:
        return _task_of_lists(name, lists, rows, messages)
    if isinstance(first := typical(values), Mapping):
        if "text" in first and first.keys() & {"start", "answer_start"}:
            return "qa"
        messages.append(f"Target {name!r} holds objects: rows are embedded near theirs.")
        return "embedding"
    if is_category:
        return "classification"
    _check_is_no_tag(name, values)
    distinct = len({str(v) for v in values if not says_missing(v)})
    if (numbers := numbers_of(name, values)) is not None and not holds_codes(values):
        return _task_of_numbers(name, values, numbers, distinct, messages)
    if len(values) >= 2 * MIN_ROWS and distinct > 0.5 * len(values):
        raise SchemaError(
            f"target {name!r} has {distinct} distinct values in {len(values)} rows, which is text rather than classes.",
            hint=f"If they are classes, say {name}:classification; to find them by search, {name}:embedding.",
        )
    return "classification"


def _check_is_no_tag(name: str, values: Sequence[Any]) -> None:
    """Raises SchemaError where every value is one tag of an entity: a row is then a word without its sentence."""
    distinct = sorted({value.strip() for value in values if isinstance(value, str)})
    begins = [tag for tag in distinct if types_of([tag]) - {BARE_LABEL}]
    if begins and "O" in map(str.upper, distinct) and mark_spans(distinct):
        raise SchemaError(
            f"target {name!r} has one tag per row ({begins[0]!r}, 'O'): each row is a word, which would be classified "
            "without its sentence.",
            hint="Write a word and its tag per line, with a blank line after each sentence, into a .conll file; or a "
            f"list of words and one of tags per row. To classify single rows all the same say {name}:classification.",
        )


def _task_of_numbers(
    name: str, values: Sequence[Any], numbers: Sequence[float], distinct: int, messages: list[str]
) -> str:
    """ "classification" for whole numbers that are few, or that come back in a column with the name of classes."""
    if isinstance(typical(values), (dt.timedelta, dt.time)):
        messages.append(f"Target {name!r} holds durations: they are learned and answered in seconds.")
        return "regression"
    if sum(number.is_integer() for number in numbers) < MOST * len(numbers):
        return "regression"
    come_back = distinct <= 0.2 * len(values)
    if distinct <= FEW_NUMBERS or (come_back and name.lower() in CLASS_NAMES):
        how = f"say {name}:regression otherwise"
        messages.append(f"Target {name!r}: {distinct} distinct whole numbers are read as classes ({how}).")
        return "classification"
    if distinct <= 0.5 * len(values):
        how = f"say {name}:classification otherwise"
        messages.append(f"Target {name!r}: {distinct} distinct whole numbers are read as a quantity ({how}).")
    return "regression"


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
        if "text" in first and "label" not in first:
            return "qa"
        raise SchemaError(
            f"target {name!r} holds lists of {first!r:.80}.",
            hint="Expected {box, label} (objects), {start, end, label} (spans) or {text, start} (answers).",
        )
    if isinstance(first, (list, tuple)) and len(first) == 3:
        return _task_of_spans(name, items, messages)
    if (words := words_column(name, rows)) is not None:
        if words != "tokens" or not isinstance(first, str):
            messages.append(f"Target {name!r} has one label for each word of {words!r}: it is read as tagging.")
        return "tagging"
    tags = [tag for labels in items for tag in labels if isinstance(tag, str)]
    repeats = any(len(set(map(str, labels))) < len(labels) for labels in items)
    if mark_spans(tags) and (repeats or types_of(tags) - {BARE_LABEL}):
        return "tagging"
    if repeats and (column := beside(name, lists, rows)) is not None:
        messages.append(f"Target {name!r} has one label for each word of {column!r}: it is read as tagging.")
        return "tagging"
    return "classification"  # several labels per row


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


def _named_field(name: str, modality: str | None, values: list[Any], declared: str | None) -> FieldSpec:
    """A column that the user named: never left out unless that was asked for."""
    if modality is None:
        inferred = infer_modality(name, values, declared)[0]
        modality = _readable_as(name, values) if inferred == "ignore" else inferred
    return FieldSpec(name, modality)


def _readable_as(name: str, values: list[Any]) -> str:
    """How a column can be read that inference leaves out."""
    return "number" if values and numbers_of(name, values) is not None else "text"


def _infer_inputs(
    columns: Mapping[str, list[Any]],
    targets: Sequence[TargetSpec],
    rows: Sequence[Mapping[str, Any]],
    messages: list[str],
    chosen: Mapping[str, str | None],
    declared: Mapping[str, str],
) -> tuple[FieldSpec, ...]:
    """All columns but the targets; ``chosen``: columns whose modality the user named (None: to be inferred)."""
    named = {t.name for t in targets}
    tasks = {t.task for t in targets}
    if "qa" in tasks and {"question", "context"} <= columns.keys():
        return _only(["question", "context"], columns, named)
    inferred = {n: infer_modality(n, values, declared.get(n)) for n, values in columns.items() if n not in named}
    modalities = {name: modality for name, (modality, _) in inferred.items()}
    if not {"text", "image", "history", "number"} & set(modalities.values()):
        _promote(modalities, {n: v for n, v in columns.items() if n not in declared})
    fields = []
    for name, modality in modalities.items():
        if name in chosen:
            fields.append(_named_field(name, chosen[name], columns[name], declared.get(name)))
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
    """Without any text, the column of the longest strings is the text: short texts look like categories. (Codes and
    truth values do not look like texts.)
    """
    strings = [n for n, m in modalities.items() if m == "category" and n in columns and holds_words(columns[n])]
    if strings:
        longest = max(strings, key=lambda n: sum(len(str(v)) for v in columns[n]) / len(columns[n]))
        modalities[longest] = "text"
