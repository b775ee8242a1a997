"""Names of classes that Hugging Face writes for the numbers of a table: into a Parquet file or a table of pyarrow, into
dataset_info.json beside the files, or into the head of their README.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.source import read_text
from polydetr.errors import DataFileError, Location, shown

_FILES = ("dataset_info.json", "dataset_infos.json", "README.md")
NAMED = "numbers read as names of classes"
UNNAMED = "numbers of classes without a name"
"""Kinds of problems, as a ReadReport counts them."""
_NUMBER = re.compile(r"([+-]?\d{1,9})(?:\.0)?")


def class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """Column → the names of its classes, in order, of the columns that hold their numbers, alone or in lists."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
    return _of_features(features)


def names_beside(path: Path) -> tuple[dict[str, list[str]], str]:
    """``class_names`` of a file whose folder, or the folder above it, says them, and the name of the file that does."""
    for folder in (path.parent, path.parent.parent):
        for name in _FILES:
            file = folder / name
            if file.is_file() and (found := _of_file(file)):
                return found, name
    return {}, ""


def _of_file(file: Path) -> dict[str, list[str]]:
    """A file that says nothing of classes, or is none of Hugging Face's, has no names."""
    try:
        text = read_text(file)
        if file.suffix == ".md":
            if not text.startswith("---") or "dataset_info" not in text:
                return {}
            import yaml

            info = yaml.safe_load(text.split("---")[1])["dataset_info"]
        else:
            info = json.loads(text)
    except (DataFileError, KeyError, TypeError, ValueError, RecursionError, IndexError):
        return {}
    except Exception as error:
        if type(error).__module__.startswith("yaml"):
            return {}
        raise
    several = info if isinstance(info, list) else [info]
    if isinstance(info, Mapping) and "features" not in info:
        several = list(info.values())
    found = [_of_features(one["features"]) for one in several if isinstance(one, Mapping) and "features" in one]
    return found[0] if found and all(names == found[0] for names in found) else {}


def _of_features(features: Any) -> dict[str, list[str]]:
    """features: a mapping of columns, or the list of them that a README.md has."""
    try:
        if isinstance(features, list):
            named = {feature["name"]: _of_card(feature) for feature in features}
        else:
            named = {column: _names(feature) for column, feature in features.items()}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}
    return {str(column): names for column, names in named.items() if names}


def _names(feature: Any) -> list[str]:
    """The names of a ``ClassLabel``, or of a list of them, which older versions write as a list of one feature."""
    if isinstance(feature, list):
        return _names(feature[0]) if feature else []
    if "names" in feature:
        return [str(name) for name in feature["names"]]
    return _names(feature["feature"]) if isinstance(feature.get("feature"), dict) else []


def _of_card(feature: Mapping[str, Any]) -> list[str]:
    """The names in a README.md: dtype (or sequence, or list) → class_label → names, by number."""
    kind = next((feature[k] for k in ("dtype", "sequence", "list") if isinstance(feature.get(k), Mapping)), {})
    names = (kind.get("class_label") or {}).get("names") or {}
    pairs = names.items() if isinstance(names, Mapping) else enumerate(names)
    by_number = {int(number): str(name) for number, name in pairs}
    return [by_number[number] for number in range(len(by_number))]


def with_class_names(rows: Iterable[Mapping[str, Any]], names: Mapping[str, Sequence[str]]) -> Iterator[dict[str, Any]]:
    """The rows with names in place of the numbers of these columns; -1 is a missing label."""
    for row in rows:
        yield _named_row(row, names)


def records_with_class_names(
    records: Iterable[Record], names: Mapping[str, Sequence[str]], said_by: str, report: ReadReport
) -> Iterator[Record]:
    """``with_class_names`` of records, whose numbers may be written as text; told once. said_by: the file that has the
    names.
    """
    told: set[str] = set()
    for record in records:
        row = _named_row(record.row, names)
        for column, of in names.items():
            number = _number(record.row.get(column), of)
            if number is not None and number >= len(of):
                report.note(UNNAMED, f"column {column!r}: {number}, of {len(of)} numbered from 0", record.location)
        for column in names.keys() - told:
            if column in row and row[column] != record.row[column]:
                told.add(column)
                listed = ", ".join(f"{i} = {shown(name, 20)}" for i, name in enumerate(names[column][:5]))
                more = ", ..." if len(names[column]) > 5 else ""
                report.note(NAMED, f"column {column!r}: {listed}{more} ({said_by})", Location(record.location.file))
        yield replace(record, row=row)


def _named_row(row: Mapping[str, Any], names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    return {**row, **{column: _named(row[column], of) for column, of in names.items() if column in row}}


def _named(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, (list, tuple)):
        return [_named(item, names) for item in value]
    number = _number(value, names)
    if number is None or number >= len(names):
        return value
    return names[number] if number >= 0 else None


def _number(value: Any, names: Sequence[str]) -> int | None:
    """The number of a class; None for anything else. A text, as CSV has it, may be a name where names are numbers."""
    if isinstance(value, str):
        written = _NUMBER.fullmatch(value.strip())
        return None if written is None or any(map(_NUMBER.fullmatch, names)) else int(written[1])
    if isinstance(value, float) and value.is_integer():  # of a column with a gap
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
