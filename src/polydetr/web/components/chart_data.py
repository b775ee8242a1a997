"""What a chart shows, as options of ECharts without colors of the page and as rows of a table: the same numbers.

Every builder takes plain numbers and returns ``ChartData``. Bars begin at zero; lines carry their names at their ends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polydetr.reports.style import BLUE, ORANGE, PALETTE, shorten
from polydetr.web.components.number_text import number_text

Point = tuple[float, float | None]
_DASHES = ("solid", "dashed", "dotted")
_MARKS = ("circle", "rect", "triangle", "diamond")
"""A line is told from another by more than its color."""
_NAME = 24
"""Columns of a name in a drawing; the table has all of it."""


@dataclass(frozen=True)
class ChartData:
    """label: what it shows, its heading. summary: what is to be seen in it, for who does not see it. head, rows: the
    numbers. zoom: whether a part of the x axis may be looked at. height: in pixels, 0: as the page has it. wide: it
    takes the whole width.
    """

    label: str
    options: Mapping[str, Any]
    head: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]
    summary: str = ""
    note: str = ""
    zoom: bool = False
    height: int = 0
    wide: bool = False


def lines(
    label: str,
    series: Mapping[str, Sequence[Point]],
    *,
    x: str,
    y: str,
    shares: tuple[bool, bool] = (False, False),
    bounds: tuple[float | None, float | None] = (None, None),
    colors: Mapping[str, str] | None = None,
    diagonal: str = "",
    at: tuple[float, str] | None = None,
    note: str = "",
    points: bool = True,
) -> ChartData:
    """Lines over numbers. shares: whether x, y are written as percentages. bounds: of the y axis. diagonal: the name of
    the line from 0, 0 to 1, 1. at: an x that is marked, and what it is.
    """
    drawn: list[dict[str, Any]] = []
    shifts = _apart(series)
    for i, (name, values) in enumerate(series.items()):
        color = (colors or {}).get(name, PALETTE[i % len(PALETTE)])
        drawn.append({
            "type": "line", "name": shorten(name, _NAME), "data": [list(point) for point in values],
            "itemStyle": {"color": color}, "symbol": _MARKS[i % len(_MARKS)], "symbolSize": 7, "showSymbol": points,
            "lineStyle": {"color": color, "width": 2, "type": _DASHES[i % len(_DASHES)]},
            "endLabel": {
                "show": True, "formatter": "%last", "color": "$ink", "fontSize": 14, "offset": [0, shifts.get(name, 0)],
            },
            "emphasis": {"focus": "series"},
        })  # fmt: skip
    if diagonal:
        drawn.append({
            "type": "line", "name": diagonal, "data": [[0, 0], [1, 1]], "symbol": "none", "silent": True,
            "lineStyle": {"color": "$dim", "width": 1, "type": "dashed"}, "itemStyle": {"color": "$dim"},
        })  # fmt: skip
    if at is not None and drawn:
        drawn[0]["markLine"] = {
            "symbol": "none", "silent": True, "lineStyle": {"color": "$dim", "type": "dashed"},
            "label": {"formatter": at[1], "color": "$dim", "position": "insideEndTop"}, "data": [{"xAxis": at[0]}],
        }  # fmt: skip
    longest = max((len(shorten(name, _NAME)) for name in series), default=0)
    wide = max((sum(2 if ord(c) > 0x2E80 else 1 for c in shorten(n, _NAME)) for n in series), default=longest)
    low, high = bounds
    options = {
        "grid": {"left": 8, "right": 24 + 8 * wide, "top": 32, "bottom": 40, "containLabel": True},
        "tooltip": {"trigger": "axis", "valueFormatter": "%share" if shares[1] else "%number"},
        "xAxis": {
            "type": "value", "name": x, "nameLocation": "middle", "nameGap": 32, "splitLine": {"show": False},
            "scale": True, "axisLabel": {"formatter": "%share" if shares[0] else "%number", "hideOverlap": True},
        },
        "yAxis": {
            "type": "value", "name": y, "nameTextStyle": {"align": "left"}, "scale": low is None,
            "axisLabel": {"formatter": "%share" if shares[1] else "%number"},
            **({} if low is None else {"min": low}), **({} if high is None else {"max": high}),
        },
        "series": drawn,
    }  # fmt: skip
    rows = [[name, at_x, at_y] for name, values in series.items() for at_x, at_y in values]
    if len(series) == 1:
        return ChartData(label, options, [x, y], [row[1:] for row in rows], _span(series), note, True)
    return ChartData(label, options, ["", x, y], rows, _span(series), note, True)


def _apart(series: Mapping[str, Sequence[Point]], *, pixels: float = 220.0, line: float = 17.0) -> dict[str, float]:
    """By how many pixels the names at the ends of lines are moved, so that they do not lie upon each other."""
    every = [value for values in series.values() for _, value in values if value is not None]
    ends = {n: next((v for _, v in reversed(values) if v is not None), None) for n, values in series.items()}
    known = sorted(((value, name) for name, value in ends.items() if value is not None), reverse=True)
    if len(known) < 2:
        return {}
    size = (max(every) - min(every)) or 1.0
    wanted = [(max(every) - value) / size * pixels for value, _ in known]
    placed: list[float] = []
    for place in wanted:
        placed.append(max(place, placed[-1] + line) if placed else place)
    over = max(0.0, placed[-1] - pixels)
    for i in range(len(placed) - 1, -1, -1):  # those below the drawing push the others up again
        placed[i] = min(placed[i], (placed[i + 1] - line) if i + 1 < len(placed) else placed[i] - over)
    return {name: round(at - want, 1) for (_, name), at, want in zip(known, placed, wanted, strict=True)}


def score_bounds(series: Mapping[str, Sequence[Point]]) -> tuple[float | None, float | None]:
    """Of the y axis of scores: from a little below the lowest to 1, where they are shares."""
    every = [value for values in series.values() for _, value in values if value is not None]
    if not every or min(every) < 0 or max(every) > 1:
        return None, None
    return max(0.0, math.floor((min(every) - 0.05) * 10) / 10), 1.0


def _span(series: Mapping[str, Sequence[Point]]) -> str:
    """Each line's first and last value, in words."""
    said = []
    for name, values in series.items():
        known = [value for _, value in values if value is not None]
        if known:
            said.append(f"{name}: {number_text(known[0])} → {number_text(known[-1])}")
    return "; ".join(said)


def bars(
    label: str,
    values: Mapping[str, float],
    *,
    unit: str,
    colors: Mapping[str, str] | None = None,
    intervals: Mapping[str, tuple[float, float]] | None = None,
    notes: Mapping[str, str] | None = None,
    share: bool = False,
    most: float | None = None,
    note: str = "",
) -> ChartData:
    """Bars beside their names, from zero. intervals: drawn on the bars; notes: behind them, in place of the value."""
    names = list(values)
    data = [
        {"value": values[n], "itemStyle": {"color": (colors or {}).get(n, BLUE)}} for n in names
    ]  # fmt: skip
    writing = "%share" if share else "%number"
    series: list[dict[str, Any]] = [{
        "type": "bar", "name": unit, "barMaxWidth": 20, "data": data,
        "label": {"show": True, "position": "right", "color": "$ink", "fontSize": 14, "formatter": "{c}"},
    }]  # fmt: skip
    for one, name in zip(data, names, strict=True):
        said = (notes or {}).get(name) or (f"{values[name]:.1%}" if share else number_text(values[name]))
        one["label"] = {"formatter": said.replace("{", "(").replace("}", ")")}
    if intervals:
        series[0]["label"]["position"] = "insideLeft"
        series[0]["label"]["color"] = "#ffffff"
        series.append({
            "type": "scatter", "name": "95 %", "symbol": "rect", "symbolSize": [2, 14], "itemStyle": {"color": "$ink"},
            "data": [[edge, i] for i, n in enumerate(names) if n in intervals for edge in intervals[n]],
            "silent": True,
        })  # fmt: skip
        series += [
            {
                "type": "line", "silent": True, "symbol": "none", "lineStyle": {"color": "$ink", "width": 2},
                "data": [[intervals[n][0], i], [intervals[n][1], i]],
            }
            for i, n in enumerate(names)
            if n in intervals
        ]  # fmt: skip
    options = {
        "grid": {"left": 8, "right": 80 if not intervals else 24, "top": 8, "bottom": 8, "containLabel": True},
        "tooltip": {"trigger": "item", "valueFormatter": writing},
        "xAxis": {"type": "value", "min": 0, **({} if most is None else {"max": most}), "splitNumber": 4,
                  **({} if share or any(v != int(v) for v in values.values()) else {"minInterval": 1}),
                  "axisLabel": {"formatter": writing, "hideOverlap": True}},
        "yAxis": {"type": "category", "inverse": True, "data": [shorten(n, 20, keep_end=True) for n in names],
                  "splitLine": {"show": False}, "axisLabel": {"interval": 0}},
        "series": series,
    }  # fmt: skip
    if intervals:
        none = (None, None)
        rows = [[n, values[n], *intervals.get(n, none), *([notes.get(n, "")] if notes else [])] for n in names]
        head = ["", unit, "2.5 %", "97.5 %", *([""] if notes else [])]
    else:
        rows, head = [[n, values[n]] for n in names], ["", unit]
    top = ", ".join(f"{n}: {number_text(values[n])}" for n in names[:5])
    return ChartData(label, options, head, rows, top, note, height=max(96, 40 + 28 * len(names)))


def pairs(
    label: str, values: Mapping[str, tuple[float, float]], *, of: tuple[str, str], share: bool = True, note: str = ""
) -> ChartData:
    """Two bars beside each name, such as before and after."""
    names = list(values)
    options = {
        "grid": {"left": 8, "right": 16, "top": 40, "bottom": 8, "containLabel": True},
        "legend": {"top": 0, "left": 0, "textStyle": {"color": "$ink", "fontSize": 14}, "itemWidth": 16},
        "tooltip": {"trigger": "axis", "valueFormatter": "%share" if share else "%number"},
        "xAxis": {"type": "category", "data": [shorten(n, 16) for n in names], "axisLabel": {"hideOverlap": True}},
        "yAxis": {"type": "value", "min": 0, "axisLabel": {"formatter": "%share" if share else "%number"}},
        "series": [
            {"type": "bar", "name": of[i], "data": [values[n][i] for n in names], "itemStyle": {"color": color}}
            for i, color in enumerate((BLUE, ORANGE))
        ],
    }  # fmt: skip
    rows = [[n, *values[n]] for n in names]
    said = "; ".join(f"{n}: {number_text(a, 3)}, {number_text(b, 3)}" for n, (a, b) in values.items())
    return ChartData(label, options, ["", *of], rows, said, note)


def heat(
    label: str, names: Sequence[str], cells: Sequence[tuple[int, int, int]], *, of: tuple[str, str], note: str = ""
) -> ChartData:
    """Counts by row and column, of the same names; the color is the share of the row. of: what rows and columns are."""
    totals: dict[int, int] = {}
    for row, _, count in cells:
        totals[row] = totals.get(row, 0) + count
    data = [
        {"value": [column, row, count, count / totals[row]],
         "label": {"color": "#ffffff" if count / totals[row] > 0.55 else "$ink"}}
        for row, column, count in cells
        if count
    ]  # fmt: skip
    short = [shorten(name, 16, keep_end=True) for name in names]
    long = sum(map(len, short)) > 28
    turned = 90 if len(names) > 12 else 45 if len(names) > 4 or long else 0
    options = {
        "grid": {"left": 8, "right": 8, "top": 8, "bottom": 32, "containLabel": True},
        "tooltip": {"trigger": "item"},
        "xAxis": {"type": "category", "data": short, "splitLine": {"show": False},
                  "axisLabel": {"rotate": turned, "interval": 0}},
        "yAxis": {"type": "category", "data": short, "inverse": True,
                  "splitLine": {"show": False}, "axisLabel": {"interval": 0}},
        "series": [{"type": "heatmap", "name": label, "data": data,
                    "label": {"show": len(names) <= 22, "formatter": "%cell", "fontSize": 14}}],
        "visualMap": {"show": False, "min": 0, "max": 1, "dimension": 3, "inRange": {"color": ["$raised", BLUE]}},
    }  # fmt: skip
    rows = [[names[row], names[column], count] for row, column, count in cells if count]
    wrong = sorted((cell for cell in cells if cell[0] != cell[1]), key=lambda cell: -cell[2])[:3]
    said = "; ".join(f"{names[row]} → {names[column]}: {count}" for row, column, count in wrong)
    height = 120 + max(120, 30 * len(names))
    return ChartData(label, options, [*of, "n"], rows, said, note, height=height, wide=len(names) > 12)
