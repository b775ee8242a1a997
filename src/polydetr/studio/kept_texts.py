"""The texts of the validation rows that a model folder keeps, where they are whole rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from polydetr.inference.kept_rows import ROWS
from polydetr.serving.contract import ModelInfo, Row
from polydetr.serving.rows import Columns

_MOST_BYTES = 64 << 20
"""Of the header in which they stand."""


def kept_texts(info: ModelInfo) -> list[Row]:
    """Rows of the one text that the model reads; none where it reads more than that (of other inputs the folder keeps
    what the network sees, and not what the row said), or where its folder keeps none. Reads a file.
    """
    columns = Columns.of(info)
    if columns.inputs != columns.texts or len(columns.texts) != 1 or not info.folder:
        return []
    try:
        with (Path(info.folder) / ROWS).open("rb") as file:  # safetensors: eight bytes of length, then JSON
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if 0 < size <= _MOST_BYTES else {}
        documents = json.loads(header["__metadata__"]["polydetr"])["parts"]["rows"]["texts"]
        texts = dict.fromkeys(text for document in documents for text, _ in document)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []  # an older folder, or one without them: the page offers other rows
    return [_row(columns.texts[0], text) for text in texts if isinstance(text, str)]


def _row(column: str, text: str) -> Mapping[str, str]:
    return {column: text}
