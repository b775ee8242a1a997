"""A model's answers, one per row, in order, in constant memory; and as JSON."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polydetr.core.files import file_names
from polydetr.core.layout import FieldText
from polydetr.core.predictions import Bounded, ByLabel, Prediction, RowResult, Scoped
from polydetr.core.records import Finding, ReadReport, Record, Rejection
from polydetr.data.readers.source import STANDARD_INPUT
from polydetr.engine.engine import Engine, OnError
from polydetr.engine.inputs import ReadingWarning
from polydetr.errors import Location, RowError
from polydetr.tasks.base import Task
from polydetr.tasks.capabilities import Judged, WritesFiles
from polydetr.values.images import list_images

_IDS = ("image_id", "id")
"""Columns that name a row, where it has them."""


@dataclass(frozen=True)
class Problem:
    """Why a row has no answer: what is wrong, where it stands, and how to repair it."""

    message: str
    location: Location = field(default_factory=Location)
    hint: str | None = None

    def __str__(self) -> str:
        return str(RowError(self.message, location=self.location, hint=self.hint))


@dataclass(frozen=True)
class Answer:
    """What became of one row.

    row: its number, from 1, rejected rows included; record: the row itself, None where it could not even be read;
    predictions: target → value, calibrated probability and the task's details, empty where there is an ``error``;
    warnings: what in the row was missing, truncated or unknown, though it was answered; about: what names the row
    beside its number, see ``about_row``; text: what answers with spans count their characters in.
    """

    row: int
    record: Record | None
    predictions: Mapping[str, Prediction] = field(default_factory=dict)
    warnings: Sequence[Finding] = ()
    error: Problem | None = None
    tasks: Mapping[str, Task] = field(default_factory=dict, repr=False, compare=False)
    about: Mapping[str, Any] = field(default_factory=dict)
    text: FieldText | None = field(default=None, repr=False, compare=False)

    @property
    def values(self) -> dict[str, Any]:
        """Target → answer."""
        return {target: prediction.value for target, prediction in self.predictions.items()}

    def json_values(self, *, files: Path | None = None) -> dict[str, Any]:
        """Target → answer in JSON's own types; ``files``: see ``to_dict``. Raises SaveError."""
        names = file_names(self.predictions)
        return {
            t: json_value(self.tasks[t], p.value, file=files / f"{self.row:05d}-{names[t]}" if files else None)
            for t, p in self.predictions.items()
        }

    def to_dict(self, *, files: Path | None = None, probabilities: bool = False) -> dict[str, Any]:
        """The answer in JSON's own types, the error as one text.

        files: the folder for answers that are no JSON (images); the text then has their paths, relative to the folder's
        parent, in place of their content. probabilities: also those of every class.

        Raises:
            SaveError: a file cannot be written.
        """
        if self.error is not None:
            return {"row": self.row, **self.about, "error": str(self.error)}
        values = self.json_values(files=files)
        shown: dict[str, Any] = {"row": self.row, **self.about, "prediction": values}
        if known := {t: p.probability for t, p in self.predictions.items() if p.probability is not None}:
            shown["probability"] = known
        if probabilities:
            by_label = {t: p.details for t, p in self.predictions.items() if isinstance(p.details, ByLabel)}
            shown["probabilities"] = {t: {str(k): v for k, v in d.probabilities.items()} for t, d in by_label.items()}
        details = {t: p.details for t, p in self.predictions.items()}
        intervals = {t: p.details.interval for t, p in self.predictions.items() if isinstance(p.details, Bounded)}
        if any(intervals.values()):
            shown["interval"] = {t: list(interval) for t, interval in intervals.items() if interval}
        if withheld := [t for t, p in self.predictions.items() if p.abstained]:
            shown["abstained"] = True
            if len(self.predictions) > 1:
                shown["abstained_targets"] = withheld
        if outside := [t for t, d in details.items() if isinstance(d, Scoped) and d.in_scope is False]:
            shown["out_of_scope"] = outside
        if self.warnings:
            shown["warnings"] = [str(finding) for finding in self.warnings]
        return shown


def answers(
    engine: Engine,
    records: Iterable[Record],
    report: ReadReport,
    *,
    on_error: OnError = "return",
    least: Mapping[str, float] | None = None,
) -> Iterator[Answer]:
    """One answer per row. ``report``: filled while ``records`` are read; a row that is rejected there is answered, with
    its error, in its place. least: target → the probability below which its answers are withheld.

    Raises:
        RowError: a row cannot be read and ``on_error`` is "raise".
    """
    before: dict[int, list[Rejection]] = {}  # rows that were rejected on reading, by the good row they precede

    def tracked() -> Iterator[Record]:
        for index, record in enumerate(records):
            if report.rejected:
                before[index] = list(report.rejected)
                report.rejected.clear()
            yield record

    number = 0
    for index, result in enumerate(engine.run(tracked(), on_error=on_error)):
        for rejection in before.pop(index, ()):
            number += 1
            yield rejected_row(number, rejection)
        number += 1
        yield answered_row(number, result, engine, least or {})
    for rejection in report.rejected:
        number += 1
        yield rejected_row(number, rejection)


def without_errors(every: Iterable[Answer]) -> Iterator[Answer]:
    """The answers to rows that could be read; a warning at their end says how many could not."""
    problems = []
    for answer in every:
        if answer.error is None:
            yield answer
        else:
            problems.append(answer.error)
    if problems:
        rows = "1 row was" if len(problems) == 1 else f"{len(problems)} rows were"
        warnings.warn(f"{rows} left out (first: {problems[0]})", ReadingWarning, stacklevel=2)


def answered_row(number: int, result: RowResult, engine: Engine, least: Mapping[str, float]) -> Answer:
    """The answer to a row that could be read; ``least``: see ``answers``."""
    error = result.error
    predictions = dict(result.predictions)
    for target, probability in least.items():
        if target in predictions and isinstance(task := engine.tasks[target], Judged):
            predictions[target] = task.withhold(predictions[target], probability)
    problem = None if error is None else Problem(error.message, error.location or Location(), error.hint)
    about = about_row(result.record, engine)
    return Answer(number, result.record, predictions, result.warnings, problem, engine.tasks, about, result.text)


def rejected_row(number: int, rejection: Rejection) -> Answer:
    """The answer to a row that could not even be read."""
    problem = Problem(rejection.reason, rejection.location)
    return Answer(number, None, error=problem, about=rejection.about or _file(rejection.location))


def about_row(record: Record, engine: Engine) -> dict[str, Any]:
    """What names a row beside its number: "image", the path as it has it, or else "file", in which it stands; and its
    own "image_id" and "id".
    """
    images = engine.encoder.modalities.get("image")
    cells = (item for name in (images.fields if images else ()) for item in list_images(record.row.get(name)))
    path = next((str(cell) for cell in cells if isinstance(cell, str | Path)), None)
    about = {"image": path} if path else _file(record.location)
    ids = {name: record.row.get(name) for name in _IDS if name not in engine.tasks}
    return about | {name: value for name, value in ids.items() if isinstance(value, str | int)}


def _file(location: Location) -> dict[str, Any]:
    return {"file": location.file} if location.file not in (None, STANDARD_INPUT) else {}


def json_value(task: Task, value: Any, *, file: Path | None = None) -> Any:
    """A prediction's value in JSON terms; ``file``: see ``WritesFiles``."""
    return task.to_json(value, file=file) if isinstance(task, WritesFiles) else value
