"""Which column is read as what, and which is predicted by which task: given by the user, or inferred from a sample
of rows.

Every decision that a user might want to reverse is a sentence in ``Schema.messages``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from polydetr.errors import RowError, SchemaError, listed, nearest, quoted
from polydetr.schema.columns import typical
from polydetr.schema.doubts import labels_alike
from polydetr.schema.inputs import infer_inputs, named_field, only_texts, readable_as, unopened_images
from polydetr.schema.lists import find_lists
from polydetr.schema.spec import FieldSpec, Schema, TargetSpec
from polydetr.schema.targets import infer_task, usual_target
from polydetr.schema.words import check_spans, words_column
from polydetr.values.cells import is_missing
from polydetr.values.lists import ListColumn, read_lists

REST = "*"
"""Stands, among the inputs, for all columns that are not named."""


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
    wanted = dict(targets) if targets else usual_target(list(columns), messages, needed=needs_target)
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
        fields = tuple(named_field(n, modality, columns[n], declared.get(n)) for n, modality in named.items())
    elif words is not None:
        fields = only_texts([words], columns, set(wanted))
    else:
        fields = infer_inputs(columns, chosen, sample_rows, messages, named, declared)
    doubts = unopened_images(columns, fields, named)
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
    hint = "Add a column to predict from."
    for name in (f.name for f in fields):
        values = columns[name]
        if len(set(map(str, values))) > 1 and not isinstance(typical(values), Mapping):
            kind = readable_as(name, values)
            hint = f"Name the inputs: inputs={{{name!r}: {kind!r}}} (--input {name}:{kind})."
            break
    return SchemaError(
        f"no column is left to predict {', '.join(repr(t.name) for t in targets)} from. {reasons}".strip(),
        hint=" ".join([hint, *doubts]),
    )


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Column → its values that are not missing, in the order in which columns first appear."""
    columns: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            values = columns.setdefault(name, [])
            if not is_missing(value):
                values.append(value)
    return columns
