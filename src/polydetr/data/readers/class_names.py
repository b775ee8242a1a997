"""Names of classes that Hugging Face writes beside the numbers of a table, in Parquet and pyarrow alike."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any


def class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """Column → the names of its classes, in order, of the columns that hold their numbers, alone or in lists."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        found = {column: _names(feature) for column, feature in features.items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
    return {column: names for column, names in found.items() if names}


def _names(feature: Any) -> list[str]:
    """The names of a ``ClassLabel``, or of a list of them, which older versions write as a list of one feature."""
    if isinstance(feature, list):
        return _names(feature[0]) if feature else []
    if "names" in feature:
        return [str(name) for name in feature["names"]]
    return _names(feature["feature"]) if isinstance(feature.get("feature"), dict) else []


def with_class_names(rows: Iterable[Mapping[str, Any]], names: Mapping[str, Sequence[str]]) -> Iterator[dict[str, Any]]:
    """The rows with names in place of the numbers of these columns; -1 is a missing label."""
    for row in rows:
        yield {**row, **{column: _named(row[column], of) for column, of in names.items() if column in row}}


def _named(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    if not isinstance(value, int) or value >= len(names):
        return value
    return names[value] if value >= 0 else None
