"""A model's answers as JSON-ready objects, one a row, in order, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from polydetr.core.predictions import RowResult, Scoped
from polydetr.core.records import ReadReport, Record, Rejection
from polydetr.engine.engine import Engine
from polydetr.engine.render import draw_result
from polydetr.tasks.base import Task
from polydetr.tasks.capabilities import WritesFiles


def stream_answers(
    engine: Engine, records: Iterator[Record], report: ReadReport, *, files: Path | None, draw: Path | None
) -> Iterator[dict[str, Any]]:
    """See ``Predictor.stream``. ``report`` is what reading ``records`` fills: rows it rejects are answered in their
    place.
    """
    before: dict[int, list[Rejection]] = {}  # rows that were rejected on reading, by the good row they precede

    def tracked() -> Iterator[Record]:
        for index, record in enumerate(records):
            if report.rejected:
                before[index] = list(report.rejected)
                report.rejected.clear()
            yield record

    number = 0
    for index, result in enumerate(engine.run(tracked(), on_error="return")):
        for rejection in before.pop(index, ()):
            number += 1
            yield _rejected(number, str(rejection))
        number += 1
        if draw is not None:
            draw_result(engine, result, draw, number=number)
        yield _answer(number, result, engine.tasks, files)
    for rejection in report.rejected:
        number += 1
        yield _rejected(number, str(rejection))


def _answer(number: int, result: RowResult, tasks: Mapping[str, Task], files: Path | None) -> dict[str, Any]:
    if result.error is not None:
        return _rejected(number, str(result.error))
    answer: dict[str, Any] = {"row": number}
    answer["prediction"] = {
        t: json_value(tasks[t], p.value, file=files / f"{number:05d}-{_safe(t)}" if files else None)
        for t, p in result.predictions.items()
    }
    probabilities = {t: p.probability for t, p in result.predictions.items() if p.probability is not None}
    if probabilities:
        answer["probability"] = probabilities
    unlike = [t for t, p in result.predictions.items() if isinstance(p.details, Scoped) and p.details.in_scope is False]
    if unlike:
        answer["out_of_scope"] = unlike
    if result.warnings:
        answer["warnings"] = [str(finding) for finding in result.warnings]
    return answer


def json_value(task: Task, value: Any, *, file: Path | None = None) -> Any:
    """A prediction's value in JSON terms; ``file``: see ``WritesFiles``."""
    return task.to_json(value, file=file) if isinstance(task, WritesFiles) else value


def _rejected(number: int, reason: str) -> dict[str, Any]:
    return {"row": number, "error": reason}


def _safe(name: str) -> str:
    """A column's name as part of a file's."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
