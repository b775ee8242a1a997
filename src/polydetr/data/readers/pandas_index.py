"""The index of a pandas frame. It is no column: not in memory, and not in a file or table that pandas wrote, where it
stands among the columns under its name, or as ``__index_level_0__``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from polydetr.core.records import ReadReport

_UNNAMED = re.compile(r"__index_level_\d+__")


def index_columns(names: Iterable[str], metadata: Mapping[bytes, bytes] | None = None) -> list[str]:
    """Those of a table's columns that hold the index of the frame it was made from. metadata: of its Arrow schema."""
    described = said_by_pandas(metadata, "index_columns")
    told = {name for name in described if isinstance(name, str)}  # a range is not stored as a column
    return [name for name in names if name in told or _UNNAMED.fullmatch(name)]


def said_by_pandas(metadata: Mapping[bytes, bytes] | None, what: str) -> list[Any]:
    """A list of the description that pandas writes into an Arrow schema; empty where a table was not made from a frame,
    and where its metadata is broken, without which it is read all the same.
    """
    try:
        found = json.loads((metadata or {}).get(b"pandas", b"{}"))[what]
    except (ValueError, TypeError, KeyError):
        return []
    return found if isinstance(found, list) else []


def note_index(names: Iterable[str], report: ReadReport) -> None:
    """Reports an index that is left out, and how it would be read."""
    for name in names:
        message = f"{name!r} is the index of a pandas frame; frame.reset_index() makes a column of it"
        report.note("index left out", message)
