"""Scores of parts of the rows, on the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from polydetr.studio.figures import Measured
from polydetr.studio.slices import MISSING, Outcome, Slice, outcomes_of, slices, ways, whole
from polydetr.web.components.chart import Chart
from polydetr.web.components.chart_data import bars
from polydetr.web.markup import box, link, panel, text

if TYPE_CHECKING:
    from polydetr.studio.pages import View

MOST_WAYS = 40


def slices_part(view: View, found: Measured | None, asked: Mapping[str, str], otherwise: Callable[[], None]) -> None:
    """By what is chosen in the address (``?by=length:text``), of the rows that the folder keeps. otherwise: builds what
    stands there where it keeps none.
    """
    words = view.words
    with panel(words("slices.title"), note=words("slices.note")) as section:
        section._props["id"] = "slices"
        outcomes = outcomes_of(found.rows, found.task) if found is not None else []
        if not outcomes:
            text(words("slices.none"), "p", "pd-note")
            otherwise()
            return
        offered = ways(outcomes)[:MOST_WAYS]
        if not offered:
            text(words("slices.one"), "p", "pd-note")
            return
        how, _, column = asked.get("by", "").partition(":")
        chosen = (how, column) if (how, column) in offered else offered[0]
        with box("nav", "pd-row pd-choices", aria_label=words("slices.by")):
            for one in offered:
                kept = {key: value for key, value in asked.items() if key != "by"} | {"by": f"{one[0]}:{one[1]}"}
                place = f"{view.studio.base}/{quote(view.info.name, safe='')}/model?{urlencode(kept)}#slices"
                here = {"aria-current": "true"} if one == chosen else {}
                link(words(f"slices.{one[0]}", column=one[1]), place, classes="pd-tab", dir="auto", **here)
        slices_table(view, outcomes, slices(outcomes, *chosen))


def slices_table(view: View, outcomes: Sequence[Outcome], parts: Sequence[Slice]) -> None:
    """A chart and a table of the parts; those with too few rows say so."""
    words = view.viewer.words
    of_errors = any(one.error is not None for one in outcomes)
    unit = words("slices.error" if of_errors else "model.right")
    everything = whole(outcomes)
    shown = {(part.name if part.name != MISSING else words("slices.missing")): part for part in parts}
    values = {name: part.value for name, part in shown.items()}
    # Of few rows an interval may be as wide as the axis, or without an end: it is told in the table.
    intervals = {n: (p.low, p.high) for n, p in shown.items() if p.enough}
    note = ""
    if everything is not None:
        value = f"{everything.value:.3f}" if of_errors else f"{everything.value:.1%}"
        note = words("slices.all", value=value, count=f"{everything.rows:,}")
    Chart(
        words,
        bars(
            unit,
            values,
            unit=unit,
            intervals=intervals,
            share=not of_errors,
            most=None if of_errors else 1.0,
            note=note,
        ),
    )
    with box("table", "pd-table pd-cards"):
        with box("thead"), box("tr"):
            for name in ("slices.part", "slices.rows", "", "slices.interval"):
                text(words(name) if name else unit, "th", "pd-number" if name != "slices.part" else "", scope="col")
        with box("tbody"):
            for name, part in shown.items():
                with box("tr"):
                    text(name, "th", scope="row", dir="auto")
                    text(f"{part.rows:,}", "td", "pd-number", data_label=words("slices.rows"))
                    said = f"{part.value:,.3f}" if of_errors else f"{part.value:.1%}"
                    text(said, "td", "pd-number", data_label=unit)
                    ends = (f"{end:,.3f}" if of_errors else f"{end:.1%}" for end in (part.low, part.high))
                    about = " – ".join(ends) if part.high != float("inf") else "–"
                    few = "" if part.enough else f" · {words('slices.few')}"
                    text(f"{about}{few}", "td", "pd-number", data_label=words("slices.interval"))
