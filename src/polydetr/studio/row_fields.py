"""The columns of a model as a form shows them: from what its folder describes, and what its tables have learned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from polydetr.schema.spec import IGNORE
from polydetr.serving.contract import ModelInfo
from polydetr.web.components.number_text import number_text
from polydetr.web.components.row_values import Field, Kind

MOST_NAMES = 20_000
"""Names of categories that one page is sent, of all columns together; of further columns, the first ``FEW``."""
FEW = 200
_MOST_BYTES = 64 << 20
_TABLE = "table.json"
_KINDS: Mapping[str, Kind] = {
    "text": "text", "number": "number", "category": "category", "date": "date", "image": "image", "history": "history",
}  # fmt: skip


def learned_columns(folder: str | Path) -> dict[str, dict[str, Any]]:
    """What the tables of a model folder know of their columns, those of histories as ``history/NAME``; reads files.
    Nothing where they cannot be read: a form then shows no ranges.
    """
    found: dict[str, dict[str, Any]] = {}
    for prefix, path in (("", Path(folder) / _TABLE), ("history/", Path(folder) / "history" / _TABLE)):
        try:
            if path.stat().st_size > _MOST_BYTES:
                continue
            columns = json.loads(path.read_text(encoding="utf-8"))
            found |= {f"{prefix}{column['name']}": column for column in columns}
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def fields_of(info: ModelInfo, learned: Mapping[str, Mapping[str, Any]]) -> list[Field]:
    """One per column that the model reads, in its order; learned: see ``learned_columns``."""
    schema = info.description.get("schema", {})
    kinds = {one["name"]: one["modality"] for one in schema.get("inputs", []) if one["modality"] != IGNORE}
    fields = [
        _field(name, kind, info.columns.get(name, {}), learned, info.description, prefix="")
        for name, kind in kinds.items()
    ]
    return _within(fields)


def _field(
    name: str,
    kind: str,
    schema: Mapping[str, Any],
    learned: Mapping[str, Mapping[str, Any]],
    description: Mapping[str, Any],
    *,
    prefix: str,
) -> Field:
    one = Field(name, _KINDS.get(kind, "json"), example=_example(schema))
    known = learned.get(f"{prefix}{name}", {})
    if one.kind in ("number", "date"):
        scale = known.get("scale", {})
        return replace(one, low=_number(scale.get("low")), high=_number(scale.get("high")))
    if one.kind == "category":
        names = tuple(str(found) for found in known.get("names", schema.get("examples", ())))
        return replace(one, names=names, total=len(names), example="")
    if one.kind == "image":
        return replace(one, several=_takes_several(schema))
    if one.kind == "history":
        about = description.get("modalities", {}).get("history", {})
        parts = dict(about.get("item_fields", ())) or dict.fromkeys(_item_schemas(schema), "text")
        items = _item_schemas(schema)
        fields = [_field(n, k, items.get(n, {}), learned, description, prefix="history/") for n, k in parts.items()]
        return replace(one, fields=tuple(fields), most=about.get("config", {}).get("max_items"))
    return one


def _within(fields: list[Field]) -> list[Field]:
    """With as many names as one page may be sent."""
    left, found = MOST_NAMES, []
    for one in fields:
        allowed = len(one.names) if len(one.names) <= left else min(FEW, len(one.names))
        found.append(replace(one, names=one.names[:allowed], fields=tuple(_within(list(one.fields)))))
        left -= allowed
    return found


def _takes_several(schema: Mapping[str, Any]) -> bool:
    return any(one.get("type") == "array" for one in schema.get("anyOf", ()))


def _item_schemas(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a history's items: the first mapping with properties that its schema has."""
    if "properties" in schema:
        return dict(schema["properties"])
    parts = [*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else [])]
    return next((found for part in parts if (found := _item_schemas(part))), {})


def _example(schema: Mapping[str, Any]) -> str:
    examples = schema.get("examples") or [""]
    value = examples[0]
    return number_text(value, 6, grouped=False) if isinstance(value, float) else str(value)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
