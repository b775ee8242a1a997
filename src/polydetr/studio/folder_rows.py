"""The rows that a model's folder keeps as they were read: those that it was measured on, with their answers
(``reports/*-rows.jsonl``), or the texts of its validation rows (``inference.kept_rows``).
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from polydetr.core.files import json_text
from polydetr.inference.kept_rows import ROWS
from polydetr.serving.contract import ModelInfo, Row
from polydetr.serving.rows import Columns
from polydetr.studio.figures import measured, splits_of, targets_of

_MOST_BYTES = 64 << 20
"""Of the header in which texts stand."""


def rows_of_folder(info: ModelInfo) -> list[Row]:
    """Every row once, validation rows first; [] where the folder keeps none that is whole. Reads files."""
    if not info.folder:
        return []
    columns, folder = Columns.of(info), Path(info.folder)
    found: dict[str, Row] = {}
    for split in reversed(splits_of(folder, info.description)):
        for target in targets_of(info.description):
            for kept in measured(folder, info.description, split, target).rows:
                if kept.get("whole"):
                    row = {name: value for name, value in kept["row"].items() if name in columns.inputs}
                    found.setdefault(json_text(row), row)
    return list(found.values()) or _texts(folder, columns)


def _texts(folder: Path, columns: Columns) -> list[Row]:
    """Where the model reads one text alone: of other inputs the folder keeps what the network sees, and not the row."""
    if columns.inputs != columns.texts or len(columns.texts) != 1:
        return []
    documents: Any = ()
    with suppress(OSError, ValueError, KeyError, TypeError), (folder / ROWS).open("rb") as file:
        size = int.from_bytes(file.read(8), "little")  # safetensors: eight bytes of length, then JSON
        header = json.loads(file.read(size)) if 0 < size <= _MOST_BYTES else {}
        documents = json.loads(header["__metadata__"]["polydetr"])["parts"]["rows"]["texts"]
    windows = [window for document in documents if isinstance(document, list) for window in document]
    texts = [window[0] for window in windows if isinstance(window, list) and window and isinstance(window[0], str)]
    return [{columns.texts[0]: text} for text in dict.fromkeys(texts)]
