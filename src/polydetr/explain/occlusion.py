"""Occlusion: what an answer loses where a part of the row is removed. For answers that gradients do not reach, and for
models that cannot be looked into.

A detector chooses its queries and hands its boxes on without gradients (``nn.detr_fast``), and its answer jumps from
one query to another: integrated gradients would miss most of it. So parts of the row are hidden one after another.
Source: Zeiler and Fergus 2014 (arXiv 1311.2901), section 4.2; for detectors Petsiuk et al. 2021 (arXiv 2006.03204).
"""

from __future__ import annotations

import numpy as np

from polydetr.core.records import Row
from polydetr.explain.attribution import Attribution
from polydetr.explain.deletion import moved_answer, units_of_answer
from polydetr.explain.reading import Read
from polydetr.explain.units import Units
from polydetr.tasks.explained import Answer


def occlusion(read: Read, row: Row, units: Units, answer: Answer) -> Attribution:
    """The score of a unit is what the answer (``Answer.level``) loses without it, on average over the probes that it is
    part of. Words of the answer itself stay, and score nothing. The baseline is the row without anything else, or,
    where such a row cannot be read, with the one unit that scores least. Scores of single losses do not add up to the
    loss of everything: ``error`` says by how much.
    """
    kept = units_of_answer(units, answer)

    def levels(gone: list[set[int]]) -> list[float | None]:
        readings = read([units.without(row, probe) for probe in gone])
        moved = [moved_answer(answer, units, probe) for probe in gone]
        return [None if r is None else a.level(r) for a, r in zip(moved, readings, strict=True)]

    probes = [probe - kept for probe in units.probes if probe - kept]
    everything = set(range(len(units))) - kept
    value, baseline, *left = levels([set(), everything, *probes])
    assert value is not None
    total, count = np.zeros(len(units)), np.zeros(len(units))
    for probe, level in zip(probes, left, strict=True):
        if level is not None:
            total[list(probe)] += value - level
            count[list(probe)] += 1
    scores = total / np.maximum(count, 1)
    if baseline is None:
        least = min(everything, key=lambda unit: abs(scores[unit]))
        baseline = levels([everything - {least}])[0]
    baseline = value if baseline is None else baseline
    return Attribution(scores, value, baseline, abs(float(scores.sum()) - (value - baseline)))
