"""The model's outputs for a row, decoded and raw, through the one path that every prediction takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from polydetr.core.documents import EncodedDocument
from polydetr.core.layout import FieldText
from polydetr.core.records import Record, Row
from polydetr.engine.engine import Engine
from polydetr.tasks.base import Task
from polydetr.tasks.explained import Reading

Read = Callable[[Sequence[Row]], list[Reading | None]]
"""Rows → the model's reading of each, in one batched run; None for one that it cannot read."""
_AT_ONCE = 256
"""The most rows that are held encoded: a bound on memory."""


def readings_of(engine: Engine, task: Task, rows: Sequence[Row], like: Record) -> list[Reading | None]:
    """The model's reading of each row, each a document of its own; None where it cannot be read. like: the record that
    they are variants of.
    """
    engine, readings = engine.only(task.target), []
    for start in range(0, len(rows), _AT_ONCE):
        records = (Record(row, like.location, access=like.access) for row in rows[start : start + _AT_ONCE])
        items = list(engine.encode(records, on_error="return"))
        documents = [item for item in items if isinstance(item, EncodedDocument)]
        outputs = engine.outputs(documents)
        answers = iter(zip(documents, outputs, engine.answers(documents, outputs), strict=True))
        for item in items:
            if not isinstance(item, EncodedDocument):
                readings.append(None)
                continue
            document, windows, result = next(answers)
            layouts = [layout for layout in document.layouts if layout is not None]
            text = document.texts[0] if document.texts else FieldText("", ())
            raw = [window[task.target] for window in windows]
            readings.append(Reading(result.predictions[task.target], raw, layouts, text))
    return readings
