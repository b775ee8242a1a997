"""How far what was asked is from the training rows, on the page: as of now, looked at again every so often."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polydetr.errors import PolydetrError
from polydetr.serving.drift import LEAST_ROWS, Drift
from polydetr.web.components.chart import Chart
from polydetr.web.components.chart_data import pairs
from polydetr.web.markup import box, panel, text

if TYPE_CHECKING:
    from polydetr.studio.pages import View

SOME, MUCH = 0.1, 0.25
"""Of PSI: see ``engine.profile``."""
_CHARTS = 6


def how_far(drift: Drift) -> str:
    """ "few" (rows), "none", "some" or "much"."""
    if drift.psi is None:
        return "few"
    return "none" if drift.psi < SOME else "some" if drift.psi < MUCH else "much"


def drift_part(view: View) -> None:
    """A line per column, the farthest first; the shares of the bins of those that moved."""
    words = view.viewer.words
    with panel(words("drift.title"), note=words("drift.note")):
        try:
            found = list(view.studio.fleet.drift(view.info.name))
        except PolydetrError as error:
            text(error.message, "p", "pd-note")
            return
        if not found:
            text(words("drift.none"), "p", "pd-note")
            return
        if all(one.psi is None for one in found):
            most = max(one.rows for one in found)
            text(words("drift.few", count=f"{most:,}", least=LEAST_ROWS), "p", "pd-note")
            return
        found.sort(key=lambda one: -(one.psi or 0.0))
        with box("table", "pd-table pd-cards"):
            with box("thead"), box("tr"):
                for name, kind in (
                    ("column", ""),
                    ("rows", "pd-number"),
                    ("psi", "pd-number"),
                    ("said", ""),
                    ("missing", "pd-number"),
                ):
                    text(words(f"drift.{name}"), "th", kind, scope="col")
            with box("tbody"):
                for one in found[:200]:
                    with box("tr"):
                        text(one.column, "th", scope="row", dir="auto")
                        text(f"{one.rows:,}", "td", "pd-number", data_label=words("drift.rows"))
                        text("–" if one.psi is None else f"{one.psi:.3f}", "td", "pd-number", data_label="PSI")
                        text(words(f"drift.{how_far(one)}"), "td", data_label=words("drift.said"))
                        share = "–" if one.missing is None else f"{one.missing:.1%}"
                        text(share, "td", "pd-number", data_label=words("drift.missing"))
        with box("div", "pd-columns pd-charts"):
            for one in [one for one in found if one.psi is not None][:_CHARTS]:
                shares = {label: (trained, asked) for label, trained, asked in one.bins}
                Chart(words, pairs(one.column, shares, of=(words("drift.trained"), words("drift.asked"))), height=240)
