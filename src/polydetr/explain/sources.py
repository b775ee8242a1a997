"""What the answer of one row rests on: columns, modalities, images and items; and what it is without each column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from polydetr.core.records import Record, Row, access_of
from polydetr.explain.case import Case
from polydetr.explain.reading import Read
from polydetr.explain.units import Units
from polydetr.modalities.base import Modality
from polydetr.modalities.units import Scores, ShowsImages, ShowsItems
from polydetr.reports.explained import ExplainedColumn, ExplainedImage, ExplainedItem
from polydetr.tasks.explained import Answer, PlacedAnswer

Ablation = tuple[str, str | None]
"""A modality and one of its columns; all of its columns where that is None."""


def sources_of(case: Case, scores: Scores) -> dict[str, Any]:
    """The fields of an ``Explanation`` about what the answer rests on, by their names. scores: of the row's units."""
    read, row, units = case.engine.encoder.read, case.record.row, case.units
    without = _answers_without(case.read, row, case.answer, _ablations_of(read, units)) if case.is_mixed else {}
    attention: dict[str, float] = {}
    if case.insides is not None and len(read) > 1 and case.answer.is_pooled:
        attention = case.insides.by_modality(case)
    by_group = units.split(scores)
    images: list[ExplainedImage] = []
    items: list[ExplainedItem] = []
    for part in units.parts:
        own = by_group[part.group]
        if isinstance(part, ShowsImages):
            images += _images(part, case.record, own)
        if isinstance(part, ShowsItems):
            places = enumerate(zip(part.columns, part.indices, own, strict=True))
            items += (ExplainedItem(c, index, part.item(row, unit), float(s)) for unit, (c, index, s) in places)
    columns = _explained_columns(read, row, units, scores, without)
    only = {name: modality.fields[0] if len(modality.fields) == 1 else None for name, modality in read.items()}
    return {
        "images": _with_object(case, images),
        "items": tuple(items),
        "columns": columns,
        "modalities": {name: sum(c.share for c in columns if c.modality == name) for name in read},
        "without": {name: without.get((name, column)) for name, column in only.items()},
        "attention_shares": attention,
    }


def _images(part: ShowsImages, record: Record, scores: Scores) -> list[ExplainedImage]:
    """Every image with its heat map."""
    heat = scores.reshape(len(part.owners), part.side, part.side)
    access = access_of(record)
    return [
        ExplainedImage(column, index, own, part.image(record.row, number, access=access), fit=part.fit)
        for number, (column, index, own) in enumerate(zip(part.owners, part.indices, heat, strict=True))
    ]


def _with_object(case: Case, images: Sequence[ExplainedImage]) -> tuple[ExplainedImage, ...]:
    """The images; where the answer lies in the first one, with its box there and where the model looked to find it."""
    if not isinstance(case.answer, PlacedAnswer):
        return tuple(images)
    gaze = case.insides.gaze(case) if case.insides is not None else None
    return replace(images[0], box=case.answer.box, gaze=gaze), *images[1:]


def _ablations_of(read: Mapping[str, Modality], units: Units) -> dict[Ablation, Sequence[str]]:
    """Which columns are removed together: each that the row has alone, and all of a modality that has several."""
    ablations: dict[Ablation, Sequence[str]] = {}
    for name, modality in read.items():
        present = [field for field in modality.fields if field in units.present]
        if len(modality.fields) > 1 and present:
            ablations[name, None] = present
        ablations |= {(name, field): [field] for field in present}
    return ablations


def _explained_columns(
    read: Mapping[str, Modality], row: Row, units: Units, scores: Scores, without: Mapping[Ablation, float | None]
) -> tuple[ExplainedColumn, ...]:
    """One for each column that the model reads, in its order."""
    owners, parts = np.array(units.columns), {part.group: part for part in units.parts}
    names = [(name, field) for name, modality in read.items() for field in modality.fields]
    sums = [float(scores[owners == field].sum()) for _, field in names]
    total = sum(map(abs, sums)) or 1.0
    return tuple(
        ExplainedColumn(
            field,
            name,
            parts[name].shown(row.get(field)) if field in units.present else "missing",
            score,
            abs(score) / total,
            without.get((name, field)),
        )
        for (name, field), score in zip(names, sums, strict=True)
    )


def _answers_without(
    read: Read, row: Row, answer: Answer, ablations: Mapping[Ablation, Sequence[str]]
) -> dict[Ablation, float | None]:
    """The answer (``Answer.level``) where those columns are missing; None where the model cannot read such a row:
    nothing is left of it, or a task points into the text that is gone.
    """
    readings = read([{**row, **dict.fromkeys(columns)} for columns in ablations.values()])
    return {
        name: None if reading is None else answer.level(reading)
        for name, reading in zip(ablations, readings, strict=True)
    }
