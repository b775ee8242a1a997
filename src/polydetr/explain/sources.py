"""What the answer of one row rests on: columns, modalities, images and items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from polydetr.core.records import Record, folder_of
from polydetr.explain.attention import attention_by_modality
from polydetr.explain.case import Case
from polydetr.explain.columns import Ablation, ablations_of, by_modality, explained_columns
from polydetr.explain.deletion import answers_without
from polydetr.heads.explained import PlacedAnswer
from polydetr.modalities.units import Scores, ShowsImages, ShowsItems
from polydetr.reports.explained import ExplainedImage, ExplainedItem


def sources_of(case: Case, scores: Scores) -> dict[str, Any]:
    """What there is to show, by the names of an ``Explanation``'s fields. scores: of the row's units."""
    read, row, units = case.engine.encoder.read, case.record.row, case.units
    without: dict[Ablation, float | None] = {}
    fields: dict[str, Any] = {}
    if case.is_mixed:
        without = answers_without(case.read, row, case.answer, ablations_of(read, units))
    if case.model is not None and len(read) > 1 and case.answer.is_pooled:
        fields["attention_shares"] = attention_by_modality(case.model, case.batch(case.model))
    found = units.split(scores)
    images: list[ExplainedImage] = []
    items: list[ExplainedItem] = []
    for part in units.parts:
        own = found[part.group]
        if isinstance(part, ShowsImages):
            images += _images(part, case.record, own)
        if isinstance(part, ShowsItems):
            places = enumerate(zip(part.columns, part.indices, own, strict=True))
            items += (ExplainedItem(c, index, part.item(row, unit), float(s)) for unit, (c, index, s) in places)
    columns = explained_columns(read, row, units, scores, without)
    shares, answers = by_modality(read, columns, without)
    return {
        **fields,
        "images": _with_object(case, images),
        "items": tuple(items),
        "columns": columns,
        "modalities": shares,
        "without": answers,
    }


def _images(part: ShowsImages, record: Record, scores: Scores) -> list[ExplainedImage]:
    """Every image with its heat map."""
    heat = scores.reshape(len(part.owners), part.side, part.side)
    folder = folder_of(record)
    return [
        ExplainedImage(column, index, own, part.image(record.row, number, folder=folder))
        for number, (column, index, own) in enumerate(zip(part.owners, part.indices, heat, strict=True))
    ]


def _with_object(case: Case, images: Sequence[ExplainedImage]) -> tuple[ExplainedImage, ...]:
    """Where the answer lies in the first image, that tells its place, and where the model looked to find it."""
    answer, model, target = case.answer, case.model, case.task.target
    if not isinstance(answer, PlacedAnswer):
        return tuple(images)
    first = replace(images[0], box=answer.box)
    if model is not None:
        batch = case.batch(model, case.document.examples[:1])
        gaze = answer.looked_at(model.head_of(target), case.reading, lambda: model(batch, [target]))
        first = replace(first, gaze=gaze)
    return first, *images[1:]
