"""Corrected rows among those of a run: a row with the same inputs takes the corrected labels, others are added.

Rows are split before they are corrected, so that a correction moves none of them: one that was held out stays held out,
with its corrected label, and what is added is trained on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from polydetr.core.files import json_text
from polydetr.core.reading import ExpectedColumns, ReadOptions
from polydetr.core.records import ReadReport, Record
from polydetr.data.copies import Compared, content_keys
from polydetr.data.readers import TRAIN_PARTS, read_records
from polydetr.data.text_keys import field_text
from polydetr.errors import Location, RowError, SchemaError, listed, nearest, quoted
from polydetr.schema.spec import IGNORE, Schema
from polydetr.values.cells import category_name, decimal_marks, is_empty, is_missing, read_number
from polydetr.values.formulas import formula_in
from polydetr.values.lists import read_list, read_lists

_OF_LISTS = ("tagging", "entities", "qa", "detection")
_TEXT_TABLES = (".csv", ".tsv", ".tab")
_OFFSETS = ("start", "end")


@dataclass(frozen=True)
class _Corrected:
    """One corrected row. values: target → what is right; plain: the row as it was before its formulas were escaped."""

    record: Record
    values: Mapping[str, Any]
    plain: _Corrected | None = None


class CorrectedRows:
    """Corrections as read from a file; ``apply`` brings them into the rows of a run."""

    def __init__(self, rows: Sequence[_Corrected], schema: Schema) -> None:
        self._rows, self._schema = rows, schema

    @classmethod
    def read(cls, source: Any, schema: Schema, *, on_error: str, report: ReadReport) -> CorrectedRows:
        """From whatever rows are read from.

        Raises:
            SchemaError: no rows, columns of another model. DataFileError, RowError: see ``read_records``.
        """
        targets = tuple(target.name for target in schema.targets)
        inputs = tuple(field.name for field in schema.inputs if field.modality != IGNORE)
        reading = ReadOptions(on_error="skip" if on_error == "skip" else "raise", split=None)
        expected = ExpectedColumns(inputs, targets)
        records = list(read_records(source, reading=reading, expected=expected, report=report, split=TRAIN_PARTS))
        where = Location(file=str(source) if isinstance(source, str | Path) else "corrections")
        if not records:
            raise SchemaError("there are no corrections.", location=where)
        _check_columns(records, inputs, targets, where)
        rows = [_read(record, schema, inputs) for record in records]
        if not any(row.values for row in rows):
            raise SchemaError(f"no row has a value of {listed(targets)}.", location=where)
        return cls([row for row in rows if row.values], schema)

    def apply(self, parts: Mapping[str, Sequence[Record]]) -> tuple[dict[str, list[Record]], str]:
        """The rows of each part ("train" among them) with their corrections, and a line about what became of them."""
        rows = [one for row in self._rows for one in (row, row.plain) if one is not None]
        keys = _Keys(self._schema, [*(r for records in parts.values() for r in records), *(one.record for one in rows)])
        known = {keys.of(record) for records in parts.values() for record in records}
        latest: dict[Hashable, _Corrected] = {}
        replaced = 0
        for row in self._rows:
            if keys.of(row.record) not in known and row.plain is not None:
                row = row.plain
            key = keys.of(row.record)
            if (earlier := latest.get(key)) is not None:
                replaced += any(name in earlier.values and earlier.values[name] != v for name, v in row.values.items())
                row = replace(row, values={**earlier.values, **row.values})
            latest[key] = row
        spellings = _Spellings(self._schema, parts["train"])
        repaired: Counter[str] = Counter()
        found: dict[str, list[Record]] = {}
        for name, records in parts.items():
            found[name] = []
            for record in records:
                row = latest.get(keys.of(record))
                repaired[name] += row is not None
                found[name].append(record if row is None else _with_values(record, spellings.of(row.values)))
        added = [row for key, row in latest.items() if key not in known]
        found["train"] += [_with_values(row.record, spellings.of(row.values)) for row in added]
        return found, _line(len(self._rows), repaired, len(added), replaced)


def _line(count: int, repaired: Counter[str], added: int, replaced: int) -> str:
    names = {"train": "training", "valid": "validation", "test": "test"}
    parts = [f"{number:,} {names.get(name, name)}" for name, number in repaired.items() if number]
    where = (
        f" ({', '.join(parts)})" if repaired.keys() & {"valid", "test"} and repaired["train"] < repaired.total() else ""
    )
    rows = f"{repaired.total():,} row{'s' * (repaired.total() != 1)} repaired{where}"
    line = f"{count:,} correction{'s' * (count != 1)}: {rows}, {added:,} added"
    return line + (f"; {replaced:,} of them replaced an earlier one of the same row" if replaced else "")


def _check_columns(records: Sequence[Record], inputs: Sequence[str], targets: Sequence[str], where: Location) -> None:
    """Raises SchemaError where these are corrections of a model that reads or predicts something else."""
    there = dict.fromkeys(name for record in records for name in record.row)
    if not any(name in there for name in targets):
        raise SchemaError(
            f"the corrections are of {listed(name for name in there if name not in inputs) or 'nothing'}; this "
            f"training predicts {listed(targets)}.", location=where, hint=nearest(targets[0], there),
        )  # fmt: skip
    if absent := next((name for name in inputs if name not in there), None):
        raise SchemaError(
            f"the corrections have no column {quoted(absent)}, which this training reads; they have {listed(there)}.",
            location=where, hint=nearest(absent, there),
        )  # fmt: skip


# -- reading ----------------------------------------------------------------------------------------------------------


def _read(record: Record, schema: Schema, inputs: Sequence[str]) -> _Corrected:
    """The inputs and the values of one row. Of a table of text also as it was before it was escaped."""
    lists = {name: column for name, column in schema.lists.items() if name in inputs}
    row = read_lists({name: record.row.get(name) for name in inputs}, lists)
    values = {
        target.name: _value(record.row[target.name], target.name, target.task, schema)
        for target in schema.targets
        if not is_missing(record.row.get(target.name))
    }
    of_text = Path(record.location.file or "").suffix.lower() in _TEXT_TABLES
    if not of_text:
        return _Corrected(replace(record, row=row), values)
    row = {**row, **{name: _number(row[name], name) for name in schema.names("number") if name in row}}
    found = _Corrected(replace(record, row=row), values)
    plain = {name: formula_in(value) if isinstance(value, str) else value for name, value in row.items()}
    if plain == row:
        return found
    texts = schema.names("text")
    moved = bool(texts) and plain[texts[-1]] != row[texts[-1]]
    of_spans = {target.name for target in schema.targets if target.task in _OF_LISTS and moved}
    back = {name: _moved_back(value) if name in of_spans else value for name, value in values.items()}
    return replace(found, plain=_Corrected(replace(record, row=plain), back))


def _value(value: Any, name: str, task: str, schema: Schema) -> Any:
    """The value of a cell, of whatever kind of file, as the task reads it."""
    if not isinstance(value, str):
        return value
    if task == "regression":
        return _number(value, name)
    column = schema.lists.get(name)
    if task in _OF_LISTS or column is not None:
        if isinstance(read := read_list(value), list):
            return read
        return value if column is None else column.read(value)
    return value


def _number(value: Any, name: str) -> Any:
    """The number that our own files write, whatever marks the training rows have; other texts stay."""
    if isinstance(value, str):
        with suppress(RowError):
            return read_number(value, column=name)
    return value


def _moved_back(value: Any) -> Any:
    """Spans of a text from which the apostrophe before it was taken."""
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        return value
    return [{n: v - 1 if n in _OFFSETS and isinstance(v, int) else v for n, v in one.items()} for one in value]


# -- comparing --------------------------------------------------------------------------------------------------------


class _Keys:
    """When two rows have the same inputs: texts to the letter, numbers by value, images by their bytes."""

    def __init__(self, schema: Schema, records: Sequence[Record]) -> None:
        self._fields = [f for f in schema.inputs if f.modality not in (IGNORE, "image")]
        self._images = Compared((), images=tuple(schema.names("image")))
        numbers = schema.names("number")
        self._comma = {name: decimal_marks(r.row.get(name) for r in records).comma for name in numbers}
        self._of_record = (
            {id(record): self._images.sources(record) for record in records} if schema.names("image") else {}
        )
        self._content = content_keys({source for found in self._of_record.values() for source in found})

    def of(self, record: Record) -> Hashable:
        images = tuple(self._content[source] for source in self._of_record.get(id(record), ()))
        return (*(self._cell(f.modality, f.name, record.row.get(f.name)) for f in self._fields), images)

    def _cell(self, modality: str, name: str, value: Any) -> Hashable:
        if is_empty(value):
            return ""
        if modality == "number":
            with suppress(RowError):
                return read_number(value, column=name, comma=self._comma[name])
        if modality == "text" and not isinstance(value, Mapping):
            return field_text(value)
        return json_text(value) if isinstance(value, Mapping | list | tuple) else category_name(value)


class _Spellings:
    """Labels as the training rows write them: 1 rather than "1"."""

    def __init__(self, schema: Schema, records: Sequence[Record]) -> None:
        targets = [target.name for target in schema.targets if target.task == "classification"]
        self._known: dict[str, dict[str, Any]] = {name: {} for name in targets}
        for name, known in self._known.items():
            for record in records:
                value = record.row.get(name)
                for one in value if isinstance(value, list | tuple) else [value]:
                    if not is_missing(one) and not isinstance(one, Mapping | list | tuple):
                        known.setdefault(category_name(one), one)

    def of(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._spelled(value, self._known.get(name)) for name, value in values.items()}

    def _spelled(self, value: Any, known: Mapping[str, Any] | None) -> Any:
        if known is None or isinstance(value, Mapping):
            return value
        if isinstance(value, list | tuple):
            return [self._spelled(one, known) for one in value]
        if isinstance(value, str) and category_name(value) not in known and category_name(formula_in(value)) in known:
            value = formula_in(value)
        return known.get(category_name(value), value)


def _with_values(record: Record, values: Mapping[str, Any]) -> Record:
    read = None if record.read is None else {**record.read, **values}
    return replace(record, row={**record.row, **values}, read=read)
