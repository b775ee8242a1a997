"""A chart: what it shows in words, the drawing, its numbers as a table, and both as files. See ``chart_data``."""

from __future__ import annotations

import re

from nicegui.element import Element
from nicegui.elements.echart import echart as _echart  # registers what draws

from polydetr.web.components.chart_data import ChartData
from polydetr.web.words import Words

assert _echart


class Chart(Element, component="chart.js"):
    """``data`` drawn on the page; ``show`` draws other data in its place."""

    def __init__(self, words: Words, data: ChartData, *, height: int = 320) -> None:
        super().__init__()
        self._words, self._height = words, height
        self.classes("pd-chart-place")
        self._fill(data)

    def show(self, data: ChartData) -> None:
        """The same chart of newer numbers."""
        self._fill(data)
        self.update()

    def _fill(self, data: ChartData) -> None:
        words = self._words
        said = {
            "png_of": words("chart.png", chart=data.label), "csv_of": words("chart.csv", chart=data.label),
            "table": words("chart.table"), "table_of": words("chart.table.of", chart=data.label),
            "whole": words("chart.whole"), "more": words("chart.more", count=max(0, len(data.rows) - 200)),
        }  # fmt: skip
        self._props.update({
            "label": data.label, "note": data.note, "summary": data.summary, "options": data.options,
            "head": list(data.head), "rows": [list(row) for row in data.rows], "zoom": data.zoom,
            "height": data.height or self._height, "words": said,
            "file": re.sub(r"[^\w-]+", "-", data.label).strip("-") or "chart",
        })  # fmt: skip
