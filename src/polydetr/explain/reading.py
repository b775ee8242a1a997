"""What the model says to a row: decoded and raw, through the one path that every prediction takes."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from polydetr.core.documents import EncodedDocument
from polydetr.core.layout import FieldText
from polydetr.core.records import Record, Row
from polydetr.engine.engine import Engine
from polydetr.errors import InputError, Location
from polydetr.explain.answers import Reading
from polydetr.model.model import PolyModel
from polydetr.model.runner import TorchRunner
from polydetr.tasks.base import Task

_AT_ONCE = 256
"""Rows that are held, encoded, at most: a bound on memory."""


def in_float32(engine: Engine) -> tuple[Engine, PolyModel]:
    """The engine and its model where that computes in float32, else copies that do.

    Raises:
        InputError: the engine does not compute by PyTorch, without which there are no gradients.
    """
    if not isinstance(engine.runner, TorchRunner):
        raise InputError("only a model that computes by PyTorch can be explained", hint="Load it without runner=.")
    model = engine.runner.model
    if all(p.dtype == torch.float32 for p in model.parameters()):
        return engine, model
    model = copy.deepcopy(model).float().eval()
    return engine.with_runner(TorchRunner(model)), model


def read_rows(engine: Engine, task: Task, rows: Sequence[Row], location: Location) -> list[Reading]:
    """What the model says to each row, each a document of its own."""
    engine, readings = engine.only(task.target), []
    for start in range(0, len(rows), _AT_ONCE):
        records = (Record(row, location) for row in rows[start : start + _AT_ONCE])
        documents = [item for item in engine.encode(records) if isinstance(item, EncodedDocument)]
        outputs = engine.outputs(documents)
        for document, windows, result in zip(documents, outputs, engine.answers(documents, outputs), strict=True):
            layouts = [layout for layout in document.layouts if layout is not None]
            text = document.texts[0] if document.texts else FieldText("", ())
            raw = [window[task.target] for window in windows]
            readings.append(Reading(result.predictions[task.target], raw, layouts, text))
    return readings
