"""What the answer of one row rests on: columns, modalities, images and items."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from polydetr.core.records import folder_of
from polydetr.explain.attention import attention_by_modality
from polydetr.explain.case import Case
from polydetr.explain.columns import Ablation, ablations_of, by_modality, explained_columns
from polydetr.explain.deletion import answers_without
from polydetr.explain.parts import HistoryPart, Scores
from polydetr.explain.pictures import ImagePart
from polydetr.heads.explained import PlacedAnswer
from polydetr.reports.explained import ExplainedImage


def sources_of(case: Case, scores: Scores) -> dict[str, Any]:
    """All that there is to tell, by the names of an ``Explanation``'s fields. scores: of the row's units."""
    read, row, units = case.engine.encoder.read, case.record.row, case.units
    without: dict[Ablation, float | None] = {}
    told: dict[str, Any] = {}
    if case.is_mixed:
        without = answers_without(case.read, row, case.answer, ablations_of(read, units))
    if case.model is not None and len(read) > 1 and case.answer.is_pooled:
        told["attention_shares"] = attention_by_modality(case.model, case.batch(case.model))
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
    """Where the answer lies in the first image, that tells its place, and where the model looked to find it."""
    answer, model, target = case.answer, case.model, case.task.target
    if not isinstance(answer, PlacedAnswer):
        return images
    first = replace(images[0], box=answer.box)
    if model is not None:
        batch = case.batch(model, case.document.examples[:1])
        gaze = answer.looked_at(model.head_of(target), case.reading, lambda: model(batch, [target]))
        first = replace(first, gaze=gaze)
    return first, *images[1:]
