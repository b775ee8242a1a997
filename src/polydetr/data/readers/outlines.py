"""The box around an outline: COCO's polygons and run lengths, and YOLO's lines of corners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from polydetr.values.boxes import number

Box = tuple[float, float, float, float]


def around_points(values: Sequence[float]) -> Box:
    """Left, top, right, bottom around x, y, x, y, ...; NaN where one of them is."""
    points = np.array(values, dtype=np.float64).reshape(-1, 2)
    return (*points.min(axis=0).tolist(), *points.max(axis=0).tolist())


def around_segmentation(segmentation: Any) -> Box | None:
    """Left, top, right, bottom around COCO's polygons [[x, y, x, y, ...], ...], or around its run lengths
    {"size": [height, width], "counts": numbers or text}; None where there is no outline.

    Raises:
        ValueError: an outline that is neither.
    """
    if isinstance(segmentation, Mapping) and segmentation:
        return _around_runs(segmentation)
    if not segmentation:
        return None
    polygons: list[Any] = segmentation if isinstance(segmentation, list) else [None]
    if not isinstance(polygons[0], list):  # a lone polygon without the outer brackets
        polygons = [polygons]
    if not all(isinstance(polygon, list) and len(polygon) > 3 and len(polygon) % 2 == 0 for polygon in polygons):
        raise ValueError(f"the segmentation {segmentation!r:.60} is no list of polygons [[x, y, x, y, ...], ...].")
    return around_points([number(value) for polygon in polygons for value in polygon])


def _around_runs(segmentation: Mapping[str, Any]) -> Box | None:
    """Run lengths count pixels column by column, off and on in turn, beginning with off."""
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not isinstance(counts, (list, str)):
        raise ValueError(f"the segmentation {dict(segmentation)!r:.60} lacks a size or counts of run lengths.")
    height, width = (number(side) for side in size)
    runs = np.array(_runs(counts) if isinstance(counts, str) else [number(count) for count in counts])
    if not len(runs) or height < 1 or (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f"the run lengths of the segmentation do not fill its size {size!r:.40}.")
    ends = np.cumsum(runs)
    first, last = ends[:-1:2], ends[1::2]  # of every run that is on: its first pixel, and the one after its last
    first, last = first[last > first], last[last > first]
    if not len(first):
        return None
    left, right = first // height, (last - 1) // height
    spans = right > left  # a run that goes on in the next column touches the upper and the lower edge
    top = np.where(spans, 0, first % height)
    bottom = np.where(spans, height, (last - 1) % height + 1)
    return float(left.min()), float(top.min()), float(right.max()) + 1, float(bottom.max())


def _runs(text: str) -> list[int]:
    """The run lengths that COCO's tools pack into text: five bits a character, a sixth where the number goes on; from
    the third on, the difference from the run before the last.
    """
    runs: list[int] = []
    value = bits = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise ValueError(f"{text!r:.40} is no text of run lengths.")
        value |= (code & 31) << bits
        bits += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << bits
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = bits = 0
    return runs
