"""What an answer loses where a part of the row is taken away: for answers that no gradient leads to.

A detector chooses its queries and hands its boxes on without gradients (``nn.detr_fast``), and its answer jumps from
one query to another: integrated gradients would miss most of it. So parts of the row are hidden one after another.
Source: Zeiler and Fergus 2014 (arXiv 1311.2901), section 4.2; for detectors Petsiuk et al. 2021 (arXiv 2006.03204).
"""

from __future__ import annotations

import numpy as np

from polydetr.core.records import Row
from polydetr.explain.answers import Answer
from polydetr.explain.deletion import Read
from polydetr.explain.gradients import Attribution
from polydetr.explain.parts import Units


def occlusion(read: Read, row: Row, units: Units, answer: Answer) -> Attribution:
    """The score of a unit is what the answer's probability loses without it, on average over the probes that it is
    part of. Scores of single losses do not add up to the loss of everything: ``error`` says by how much.
    """
    probes = units.probes
    readings = read([row, units.without(row, set(range(len(units)))), *(units.without(row, probe) for probe in probes)])
    value, baseline, *left = (answer.probability(reading) for reading in readings)
    total, count = np.zeros(len(units)), np.zeros(len(units))
    for probe, probability in zip(probes, left, strict=True):
        total[list(probe)] += value - probability
        count[list(probe)] += 1
    scores = total / np.maximum(count, 1)
    return Attribution(scores, value, baseline, abs(float(scores.sum()) - (value - baseline)), len(probes))
