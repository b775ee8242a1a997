"""Rows to try a model with: some that its folder keeps, and the typical one that it describes itself by."""

from __future__ import annotations

from typing import Any

from polydetr.serving.contract import ModelInfo
from polydetr.serving.rows import Columns
from polydetr.studio.folder_rows import rows_of_folder

MOST = 20
_SHORTEST, _LONGEST = 16, 2_000
"""Characters of the texts of an example, where there are such rows."""


def examples_of(info: ModelInfo) -> list[dict[str, Any]]:
    """At most ``MOST`` kept rows, at equal distances, then the typical one. Reads files."""
    texts = Columns.of(info).texts
    rows = [{name: _in_a_field(value, name in texts) for name, value in row.items()} for row in rows_of_folder(info)]
    lengths = [[len(str(row.get(name) or "")) for name in texts] for row in rows]
    short = [row for row, found in zip(rows, lengths, strict=True) if all(0 < n <= _LONGEST for n in found)]
    good = [row for row, found in zip(rows, lengths, strict=True) if all(_SHORTEST <= n <= _LONGEST for n in found)]
    good = good or short
    chosen = [good[i * len(good) // MOST] for i in range(MOST)] if len(good) > MOST else good
    return [*chosen, dict(info.example)]


def _in_a_field(value: Any, is_text: bool) -> Any:
    """Words as the sentence that a person would type."""
    words = is_text and isinstance(value, list) and all(isinstance(word, str) for word in value)
    return " ".join(value) if words else value
