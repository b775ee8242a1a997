"""What tells one study from another: its space, its rows and columns, its seed, and all that its trials do not vary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from polydetr.schema.spec import Schema
from polydetr.training.encode import Splits
from polydetr.training.run import hash_rows
from polydetr.tuning.space import Space

_DIFFERENCES = 4
"""That are named where a study is another one."""
_NOT_THE_SAME = frozenset(
    {"out", "test", "train", "valid", "unlabelled", "corrections", "track", "time_limit", "search", "seed"}
)
"""Keys that may be others when a study is gone on with, and what is compared by itself."""


def identity_of(space: Space, schema: Schema, splits: Splits) -> dict[str, Any]:
    """As a database keeps it."""
    settings = space.config.model_dump(mode="json", exclude=set(_NOT_THE_SAME))
    whole = {
        "config": settings, "schema": schema.to_dict(), "rows": hash_rows([*splits.train, *splits.valid]),
        "space": space.to_list(), "seed": space.config.seed,
    }  # fmt: skip
    return dict(json.loads(json.dumps(whole, default=str)))


def other_things(mine: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    """A line per thing that a study was made for and that is not the same now; the first few, and how many more."""
    lines = []
    if mine["rows"] != known.get("rows"):
        lines.append("other training or validation rows")
    if mine["schema"] != known.get("schema"):
        lines.append("other columns or tasks")
    if mine["seed"] != known.get("seed"):
        lines.append(f"seed {mine['seed']} here, {known.get('seed')} there")
    ours, theirs = _flat(mine["config"]), _flat(known.get("config", {}))
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            lines.append(f"{key} is {ours.get(key)!r} here, {theirs.get(key)!r} there")
    lines += [f"another space: {line}" for line in differences(mine["space"], known.get("space", []))]
    more = len(lines) - _DIFFERENCES
    return [*lines[:_DIFFERENCES], f"and {more} more differences"] if more > 0 else lines


def _flat(section: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in section.items():
        found |= _flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return found


def differences(mine: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line per dimension that two spaces, as ``to_list`` gives them, have otherwise."""
    ours, theirs = ({str(d["key"]): dict(d) for d in space} for space in (mine, other))
    lines = []
    for key in sorted(ours.keys() | theirs.keys()):
        if key not in theirs:
            lines.append(f"{key} is varied here, not there")
        elif key not in ours:
            lines.append(f"{key} is varied there, not here")
        elif json.dumps(ours[key], sort_keys=True) != json.dumps(theirs[key], sort_keys=True):
            lines.append(f"{key}: {_told(ours[key])} here, {_told(theirs[key])} there")
    return lines


def _told(dimension: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in dimension.items() if name not in ("key", "kind"))
