"""Some of the measured rows as they were asked and answered: what scores of parts of the rows are computed from, and
what another model can be asked with.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from polydetr.core.files import json_text
from polydetr.core.predictions import RowResult
from polydetr.engine.engine import Engine

MOST_ROWS = 500
MOST_BYTES = 2 << 20
LONGEST = 4_000
"""Characters of a cell."""


def answered_rows(
    engine: Engine, target: str, results: Sequence[RowResult], wrong: Collection[int]
) -> list[dict[str, Any]]:
    """At equal distances, at most so many rows and bytes, in JSON terms. wrong: the numbers of the rows with a mistake.

    row: column → value, of the inputs; whole: whether it can be asked again as it stands, without an image that is not
    kept here and without a text cut off; gold, answer: of the target, as the row has it and as the model says;
    probability; right.
    """
    columns = [field for modality in engine.encoder.read.values() for field in modality.fields]
    numbers = [i for i, result in enumerate(results) if result.golds.get(target) is not None]
    step = max(1, -(-len(numbers) // MOST_ROWS))
    found, size = [], 0
    for i in numbers[::step]:
        result = results[i]
        row, whole = _cells(result.record.row, columns)
        prediction = result.predictions[target]
        one = {
            "row": row, "whole": whole, "gold": _cell(result.record.row.get(target))[0],
            "answer": _cell(prediction.value)[0], "probability": prediction.probability, "right": i not in wrong,
        }  # fmt: skip
        size += len(json.dumps(one, default=str))
        if size > MOST_BYTES:
            break
        found.append(one)
    return found


def _cells(row: Mapping[str, Any], columns: Sequence[str]) -> tuple[dict[str, Any], bool]:
    pairs = {column: _cell(row.get(column)) for column in columns if column in row}
    return {column: value for column, (value, _) in pairs.items()}, all(whole for _, whole in pairs.values())


def _cell(value: Any) -> tuple[Any, bool]:
    """A value in JSON terms, and whether that is all of it."""
    if isinstance(value, str):
        return value[:LONGEST], len(value) <= LONGEST
    try:
        text = json_text(value)
    except (TypeError, ValueError, RecursionError):  # an image
        return None, False
    return (json.loads(text), True) if len(text) <= LONGEST else (None, False)
