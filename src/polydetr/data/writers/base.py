"""What every writer of tables does, and one cell as text.

Text is written as it stands, so that "007" stays so. Where programs may take it for a formula, an apostrophe goes
before it (``values.formulas``); halves of characters, which no encoding has, are written as escapes.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from polydetr.core.files import json_text
from polydetr.values.cells import is_missing
from polydetr.values.formulas import without_formula

_NESTED = (list, tuple, set, frozenset, Mapping)


class TableWriter(Protocol):
    """Writes the head when it is made, then row after row; nothing is whole before ``close``."""

    def write(self, cells: Sequence[Any]) -> None:
        """One row, a cell per column; None is an empty cell.

        Raises:
            SaveError: this kind of file cannot hold it.
        """
        ...

    def close(self) -> Sequence[str]:
        """Writes what is left; returns messages about what the file could not hold as it was."""
        ...


def plain_cell(value: Any) -> Any:
    """A cell in Python's own types: None where it is missing; an array as a list, and what is no cell at all (an image)
    as a word for it.
    """
    if isinstance(value, str):
        return value
    if is_missing(value):
        return None
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, np.datetime64):  # finer than microseconds it would become a number
        return value.astype("datetime64[us]").tolist()
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist() if value.ndim < 2 else f"<array of {' × '.join(map(str, value.shape))}>"
    if hasattr(value, "to_pydatetime"):  # of pandas
        return value.to_pydatetime()
    return value


def cell_text(value: Any) -> str:
    """A cell as text: numbers in full, dates as ISO 8601, true and false, lists and mappings as compact JSON."""
    value = plain_cell(value)
    if value is None:
        return ""
    if isinstance(value, str):
        return whole_characters(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes>"
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, _NESTED):
        return json_text(_json_ready(value))
    return whole_characters(str(value))


def text_cell(value: Any) -> str:
    """``cell_text``, harmless in a spreadsheet where the cell is no number."""
    text = cell_text(value)
    return text if isinstance(value, int | float) else without_formula(text)


def whole_characters(text: str) -> str:
    """``text`` with halves of characters as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _json_ready(value: Any) -> Any:
    """Nested cells with what JSON lacks as text."""
    value = plain_cell(value)
    if isinstance(value, Mapping):
        return {cell_text(key): _json_ready(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_json_ready(inner) for inner in value]
    if isinstance(value, set | frozenset):
        return [_json_ready(inner) for inner in sorted(value, key=str)]
    return value if value is None or isinstance(value, str | int | float) else cell_text(value)
