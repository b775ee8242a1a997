"""How much each column of a row mattered, in the explained number and by what the answer is without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from polydetr.core.records import Row
from polydetr.explain.units import Units
from polydetr.modalities.base import Modality
from polydetr.modalities.units import Scores
from polydetr.reports.explained import ExplainedColumn

Ablation = tuple[str, str | None]
"""A modality and one of its columns; all of its columns where that is None."""


def ablations_of(read: Mapping[str, Modality], units: Units) -> dict[Ablation, Sequence[str]]:
    """Which columns are to be taken away together: each that is there alone, and all of a modality that has several."""
    ablations: dict[Ablation, Sequence[str]] = {}
    for name, modality in read.items():
        there = [field for field in modality.fields if field in units.present]
        if len(modality.fields) > 1 and there:
            ablations[name, None] = there
        ablations |= {(name, field): [field] for field in there}
    return ablations


def explained_columns(
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


def by_modality(
    read: Mapping[str, Modality], columns: Sequence[ExplainedColumn], without: Mapping[Ablation, float | None]
) -> tuple[dict[str, float], dict[str, float | None]]:
    """Each modality's share, and the answer without it."""
    shares = {name: sum(c.share for c in columns if c.modality == name) for name in read}
    only = {name: modality.fields[0] if len(modality.fields) == 1 else None for name, modality in read.items()}
    return shares, {name: without.get((name, column)) for name, column in only.items()}
