"""What the model says to a row: decoded and raw, through the one path that every prediction takes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import torch

from polydetr.core.examples import Arrays
from polydetr.core.layout import FieldText, Layout
from polydetr.core.predictions import Prediction
from polydetr.core.records import Record, Row
from polydetr.engine.engine import Engine
from polydetr.errors import Location
from polydetr.explain.answers import Reading
from polydetr.model.model import PolyModel
from polydetr.tasks.base import Task


def in_float32(model: PolyModel) -> PolyModel:
    """The model itself where it computes in float32, else a copy that does."""
    if all(p.dtype == torch.float32 for p in model.parameters()) and not model.training:
        return model
    return copy.deepcopy(model).float().eval()


class _Listener:
    """Stands in for a task in the engine, and hands on the raw outputs beside what the task makes of them."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def decode(
        self, outputs: Sequence[Arrays], layouts: Sequence[Layout | None], texts: Sequence[FieldText], num_rows: int
    ) -> list[Prediction]:
        (prediction,) = self.task.decode(outputs, layouts, texts, num_rows)
        text = texts[0] if texts else FieldText("", ())
        reading = Reading(prediction, outputs, [layout for layout in layouts if layout is not None], text)
        return [Prediction(reading)]


def read_rows(engine: Engine, task: Task, rows: Sequence[Row], location: Location) -> list[Reading]:
    """What the model says to each row, in one run."""
    listening = Engine(engine.model, engine.encoder, {task.target: cast(Task, _Listener(task))})
    records = (Record(row, location) for row in rows)
    return [result.predictions[task.target].value for result in listening.run(records)]
