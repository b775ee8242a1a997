"""Rows to try a model with: the typical one that it describes itself by, and texts that its folder keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polydetr.inference.kept_rows import ROWS
from polydetr.serving.contract import ModelInfo
from polydetr.serving.rows import Columns

MOST = 20
_MOST_HEADER = 32 << 20
_LONGEST = 2_000


def examples_of(info: ModelInfo) -> list[dict[str, Any]]:
    """The rows, the most telling first; reads a file. Texts are kept for tasks that answer with spans
    (``inference.kept_rows``), and make a row where the model reads one text alone.
    """
    columns = Columns.of(info)
    kept = kept_texts(Path(info.folder)) if len(columns.inputs) == 1 and len(columns.texts) == 1 else []
    return [*({columns.texts[0]: text} for text in kept), dict(info.example)]


def kept_texts(folder: Path) -> list[str]:
    """At most ``MOST``, at equal distances; [] where there are none, or they cannot be read."""
    try:
        with (folder / ROWS).open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if size <= _MOST_HEADER else {}
        rows = json.loads(header["__metadata__"]["polydetr"])["parts"]["rows"]["texts"]
        texts = [_text(one) for document in rows for one in document]
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return []
    good = [text for text in dict.fromkeys(texts) if text.strip() and len(text) <= _LONGEST]
    return [good[i * len(good) // MOST] for i in range(MOST)] if len(good) > MOST else good


def _text(one: Any) -> str:
    return one[0] if isinstance(one, list) and isinstance(one[0], str) else ""


def is_textual(row: Mapping[str, Any]) -> bool:
    """Whether a row can stand in an address: no image in it."""
    return not any(isinstance(one, bytes) for v in row.values() for one in (v if isinstance(v, list) else [v]))
