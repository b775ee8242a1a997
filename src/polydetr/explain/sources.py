"""What the answer of one row rests on: columns, modalities, pictures and items."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from polydetr.core.records import folder_of
from polydetr.explain.attention import attention_by_modality
from polydetr.explain.case import Case
from polydetr.explain.columns import Asked, by_modality, explained_columns, questions
from polydetr.explain.deletion import answers_without
from polydetr.explain.objects import ObjectAnswer, looked_at
from polydetr.explain.parts import HistoryPart, Scores
from polydetr.explain.pictures import ImagePart
from polydetr.reports.explained import ExplainedImage
from polydetr.tasks.capabilities import FindsInImages


def sources_of(case: Case, scores: Scores) -> dict[str, Any]:
    """All that there is to tell, by the names of an ``Explanation``'s fields. scores: of the row's units."""
    read, row, units, task = case.engine.encoder.read, case.record.row, case.units, case.task
    without: dict[Asked, float | None] = {}
    told: dict[str, Any] = {}
    if case.is_mixed:
        asked = questions(read, units)
        without = answers_without(case.read, row, case.answer, asked, can_read=case.can_read)
    if (
        len(read) > 1 and not task.per_token and not isinstance(task, FindsInImages)
    ):  # the answer is read from the pooled vector
        told["attention_shares"] = attention_by_modality(case.model, case.batch())
    found = units.split(scores)
    for part in units.parts:
        if isinstance(part, ImagePart):
            images = part.explained(row, found[part.group], folder=folder_of(case.record))
            told["images"] = _with_object(case, images)
        if isinstance(part, HistoryPart):
            told["items"] = part.explained(row, found[part.group])
    columns = explained_columns(read, row, units, scores, without)
    shares, answers = by_modality(read, columns, without)
    return {**told, "columns": columns, "modalities": shares, "without": answers}


def _with_object(case: Case, images: tuple[ExplainedImage, ...]) -> tuple[ExplainedImage, ...]:
    """Where the answer is an object, the first picture tells its place, and where the query that found it looked."""
    answer = case.answer
    if not isinstance(answer, ObjectAnswer):
        return images
    batch = case.batch(case.document.examples[:1])
    gaze = looked_at(case.model, batch, target=case.task.target, query=answer.query(case.reading))
    return replace(images[0], box=answer.box, gaze=gaze), *images[1:]
