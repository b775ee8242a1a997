"""What is said of a model over HTTP: what it reads and answers, its labels and scores; nothing of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polydetr.serving.contract import ModelInfo


def model_dict(info: ModelInfo) -> dict[str, Any]:
    """In JSON's own types."""
    schema = info.description.get("schema", {})
    return {
        "name": info.name,
        "version": info.version,
        "state": info.state,
        "runtime": info.runtime,
        "schema": {part: schema.get(part, []) for part in ("inputs", "targets")},
        "columns": info.columns,
        "answers": info.answers,
        "labels": {target: found for target, answer in info.answers.items() if (found := labels_in(answer))},
        "metrics": info.description.get("metrics", {}),
        "previous": info.previous,
        "shadow": info.shadow,
        **({"example": info.example} if not any(isinstance(v, bytes) for v in info.example.values()) else {}),
    }


def labels_in(schema: Any) -> list[Any]:
    """The labels that a schema of answers names ("enum"), wherever they stand in it; the first such list."""
    if isinstance(schema, Mapping):
        if isinstance(schema.get("enum"), list):
            return schema["enum"]
        return next((found for value in schema.values() if (found := labels_in(value))), [])
    if isinstance(schema, list):
        return next((found for value in schema if (found := labels_in(value))), [])
    return []
