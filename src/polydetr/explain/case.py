"""A row to explain: one of its answers, the model that gave it, and the units of the row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from polydetr.core.documents import EncodedDocument, Window
from polydetr.core.plugs import TASKS
from polydetr.core.records import Record, Row
from polydetr.engine.engine import Engine
from polydetr.errors import InputError, RowError, did_you_mean
from polydetr.explain.insides import HasInsides, Insides
from polydetr.explain.reading import readings_of
from polydetr.explain.units import Units
from polydetr.modalities.units import HasUnits, Part
from polydetr.tasks.base import Task
from polydetr.tasks.explained import Answer, Explains, Reading


@dataclass(frozen=True)
class Case:
    """``engine`` computes in float32, whatever precision the model serves in, where its network can be looked into;
    ``insides`` is None where it cannot.
    """

    engine: Engine
    insides: Insides | None
    record: Record
    task: Task
    document: EncodedDocument
    reading: Reading
    units: Units
    answer: Answer

    @classmethod
    def of(cls, engine: Engine, record: Record, *, target: str | None, choice: Any) -> Case:
        """The row, read; for ``target`` and ``choice`` see :func:`polydetr.explain.explain_record`.

        Raises:
            InputError: there is no such target or choice, or its task has no explanation.
            RowError: the row cannot be read, or has no word where the model reads text alone.
        """
        task, explainer = chosen_task(engine.tasks, target)
        insides = engine.runner.insides(engine) if isinstance(engine.runner, HasInsides) else None
        engine = insides.engine if insides else engine
        document = engine.encoder.encode([record], with_targets=False)
        (reading,) = readings_of(engine, task, [record.row], record)
        assert reading is not None
        units = Units(_parts(engine, document, record.row))
        if not len(units):
            raise RowError(
                "the row has no word, cell, column or item: there is nothing to explain", location=record.location
            )
        answer = explainer.answer_of(reading, choice, counterpart=lambda: _counterpart(engine, task, record, choice))
        return cls(engine, insides, record, task, document, reading, units, answer)

    @property
    def is_mixed(self) -> bool:
        """Whether the model reads anything but words."""
        return len(self.engine.encoder.read) > 1 or self.units.text is None

    @property
    def is_confident(self) -> bool:
        """Whether the answer is more than chance."""
        return self.answer.probability(self.reading) >= self.answer.floor

    def read(self, rows: Sequence[Row]) -> list[Reading | None]:
        """The model's readings of other rows, in one batched run; None for those that it cannot read."""
        return readings_of(self.engine, self.task, rows, self.record)


def chosen_task(tasks: Mapping[str, Task], target: str | None) -> tuple[Task, Explains]:
    """The task of ``target``, or the first that can be explained; as a task, and as what explains its answers.

    Raises:
        InputError: there is no such target, or its task has no explanation.
    """
    if target is None:
        target = next((name for name, task in tasks.items() if isinstance(task, Explains)), next(iter(tasks)))
    if target not in tasks:
        raise InputError(f"the model has no target {target!r}. {did_you_mean(target, tasks)}")
    task = tasks[target]
    if not isinstance(task, Explains):
        kinds = ", ".join(kind for kind, known in TASKS.items() if isinstance(known, Explains))
        raise InputError(
            f"target {target!r} cannot be explained: the task {task.kind!r} has no explanation",
            hint=f"Explained are {kinds}.",
        )
    return task, task


def _parts(engine: Engine, document: EncodedDocument, row: Row) -> list[Part]:
    """The modalities that this row has, with their units."""
    parts: list[Part] = []
    for name, modality in engine.encoder.read.items():
        groups = [example.groups[name] for example in document.examples]
        if not len(next(iter(groups[0].values()))):  # missing in this row
            continue
        if not isinstance(modality, HasUnits):
            raise InputError(f"a row that has {name} cannot be explained: the modality {name!r} has no explanation")
        windows = [Window(arrays, layout) for arrays, layout in zip(groups, document.layouts, strict=True)]
        parts.append(modality.units(row, windows))
    return [part for part in parts if len(part)]


def _counterpart(engine: Engine, task: Task, record: Record, choice: Any) -> np.ndarray:
    """The vector of what the row is compared with.

    Raises:
        InputError: there is nothing to compare it with.
    """
    value = record.row.get(task.target) if choice is None else choice
    if value is None:
        raise InputError(
            f"the row has no {task.target!r}: an embedding is explained by what makes the row like that",
            hint=f"Give the row a value of {task.target!r}, or name one: choice=...",
        )
    (result,) = engine.of_positives(task.target).run([replace(record, row={task.target: value})])
    return np.asarray(result.predictions[task.target].value)
