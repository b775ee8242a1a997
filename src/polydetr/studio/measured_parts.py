"""What was measured of one target, on the page: figures, charts, the worst mistakes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from polydetr.core.mistakes import Mark
from polydetr.reports.marked_text import marked, plain_html
from polydetr.reports.style import BLUE, GOOD, label_colors
from polydetr.studio.figures import (
    Measured,
    confusion_of,
    coverage_of,
    curves_of,
    label_scores,
    reliability_of,
    with_interval,
)
from polydetr.studio.pages import View
from polydetr.web.components.chart import Chart
from polydetr.web.components.chart_data import ChartData, bars, heat, lines, score_bounds
from polydetr.web.components.number_text import number_text
from polydetr.web.markup import box, link, panel, text, trusted
from polydetr.web.words import Words

_TILES, _LABELS, _MISTAKES = 6, 20, 6
_IMAGE = re.compile(r"data:image/(?:png|jpeg);base64,[A-Za-z0-9+/=]+")


def metric_name(name: str) -> str:
    """As people write it: "macro F1"."""
    said = name.replace("_", " ")
    for plain, usual in (("f1", "F1"), ("map", "mAP"), ("rmse", "RMSE"), ("mae", "MAE"), ("r2", "R²"), ("ece", "ECE")):
        said = re.sub(rf"\b{plain}\b", usual, said)
    return re.sub(r"accuracy at (\d+)", r"accuracy at \1 % coverage", said)


def figure(value: float) -> str:
    """With the digits that mean something."""
    return f"{value:.3f}" if abs(value) < 10 else number_text(value)


def metrics_part(view: View, found: Measured) -> None:
    """Tiles of the first figures with their intervals; a table of all others."""
    words, told = view.words, with_interval(found)
    rows = "" if found.count is None else words("model.of_rows", count=f"{found.count:,}")
    with panel(words("model.metrics"), note=rows):
        with box("div", "pd-figures"):
            for name, (value, interval) in list(told.items())[:_TILES]:
                tile(words, metric_name(name), figure(value), interval)
        if len(told) > _TILES:
            with box("details"):
                text(words("model.more_metrics", count=len(told) - _TILES), "summary")
                with box("table", "pd-table"), box("tbody"):
                    for name, (value, interval) in list(told.items())[_TILES:]:
                        with box("tr"):
                            text(metric_name(name), "th", scope="row")
                            text(figure(value), "td", "pd-number")
                            text(interval_words(words, interval), "td", "pd-note")


def tile(words: Any, name: str, value: str, interval: tuple[float, float] | None = None) -> None:
    """A figure with its name and what is known of how sure it is."""
    with box("div", "pd-figure"):
        text(name, "span", "pd-note", dir="auto")
        text(value, "strong", "pd-big pd-digits")
        text(interval_words(words, interval), "span", "pd-note pd-digits")


def interval_words(words: Any, interval: tuple[float, float] | None) -> str:
    """ "95 %: 0.72 – 0.86", or nothing."""
    return "" if interval is None else words("model.interval", low=figure(interval[0]), high=figure(interval[1]))


# -- charts ------------------------------------------------------------------------------------------------------------


def charts_part(view: View, found: Measured, history: Sequence[Mapping[str, Any]]) -> None:
    """Whatever of them there are numbers for."""
    words = view.viewer.words
    drawn = [*charts_of(words, found), *learning_curves(words, history)]
    if not drawn:
        return
    with box("div", "pd-columns pd-charts"):
        for data in drawn:
            with box("section", f"pd-panel{' pd-wide-part' if data.wide else ''}", aria_label=data.label):
                Chart(words, data)


def charts_of(words: Words, found: Measured) -> list[ChartData]:
    """Confusion, reliability, coverage and risk, labels."""
    drawn: list[ChartData] = []
    confusion = confusion_of(found.data, nothing=words("model.nothing"), others=words("model.others"))
    if confusion is not None and confusion.cells:
        of = (words("model.gold"), words("model.answered"))
        axes = words("model.confusion.axes")
        many = len(confusion.names) < confusion.classes
        note = f"{axes} {words('model.confusion.many', count=f'{confusion.classes:,}')}" if many else axes
        drawn.append(heat(words("model.confusion"), confusion.names, confusion.cells, of=of, note=note))
        if confusion.pairs and confusion.classes > 4:
            counts = {f"{a} → {b}": float(n) for a, b, n, _ in confusion.pairs[:12]}
            notes = {f"{a} → {b}": f"{n:,} ({share:.0%})" for a, b, n, share in confusion.pairs[:12]}
            drawn.append(bars(words("model.confused"), counts, unit=words("model.count"), notes=notes))
    if bins := reliability_of(found.data):
        drawn.append(lines(
            words("model.reliability"), {words("model.right"): [(c, a) for c, a, _ in bins]},
            x=words("model.confidence"), y=words("model.right"), shares=(True, True), bounds=(0, 1),
            diagonal=words("model.ideal"), note=words("model.reliability.note"),
        ))  # fmt: skip
    if curve := coverage_of(found.data):
        drawn.append(lines(
            words("model.coverage"), {words("model.wrong"): [(c, r) for c, r, _ in curve]},
            x=words("model.answered_share"), y=words("model.wrong"), shares=(True, True), bounds=(0, None),
            note=words("model.coverage.note"), points=len(curve) <= 30,
        ))  # fmt: skip
    scores = label_scores(found.data)
    support = {label: values["support"] for label, values in scores.items() if "support" in values}
    if support:
        few = dict(list(support.items())[:_LABELS])
        note = words("model.labels.many", shown=_LABELS, count=f"{len(support):,}") if len(support) > _LABELS else ""
        colors = label_colors(support)
        drawn.append(bars(words("model.labels"), few, unit=words("model.count"), colors=colors, note=note))
        known = {label: values["f1"] for label, values in scores.items() if values.get("support") and "f1" in values}
        worst = sorted(known, key=lambda label: known[label])
        if len(worst) > 1:
            by_label = {label: known[label] for label in worst[:_LABELS]}
            drawn.append(bars(words("model.by_label"), by_label, unit="F1", colors=colors, most=1.0))
    return drawn


def learning_curves(words: Words, history: Sequence[Mapping[str, Any]]) -> list[ChartData]:
    """Losses, and scores, over the steps of training."""
    curves, drawn = curves_of(history), []
    losses = {words.known(f"curve.{name}", name): points for name, points in curves["loss"].items()}
    if losses:
        drawn.append(lines(words("curve.loss"), losses, x=words("curve.step"), y=words("curve.loss.unit")))
    if curves["score"]:
        scores = {metric_name(name): points for name, points in curves["score"].items()}
        step, unit = words("curve.step"), words("curve.score.unit")
        drawn.append(lines(words("curve.score"), scores, x=step, y=unit, bounds=score_bounds(scores)))
    return drawn


# -- mistakes ----------------------------------------------------------------------------------------------------------


def mistakes_part(view: View, found: Measured) -> None:
    """The worst of each kind, and a link to all that are kept."""
    words, kinds = view.words, found.mistakes.get("kinds")
    kinds = kinds if isinstance(kinds, Mapping) else {}
    if not kinds and not found.page:
        return
    with panel(words("model.mistakes")):
        if found.page:
            target, split = (quote(part, safe="") for part in (found.target, found.split))
            place = f"{view.studio.base}/{quote(view.info.name, safe='')}/mistakes/{split}/{target}"
            link(words("model.mistakes.all"), place, target_="_blank", rel="noopener", icon="next")
        counted = [(kind, held) for kind, held in kinds.items() if isinstance(held, Mapping) and held.get("worst")]
        if kinds and not counted:
            text(words("model.mistakes.none"), "p", "pd-note")
        colors = (
            {}
            if found.task == "regression"
            else label_colors(
                label
                for _, held in counted
                for one in held["worst"]
                for label in (one.get("gold"), one.get("answer"))
                if label
            )
        )
        for i, (kind, held) in enumerate(counted):
            with box("details", "pd-kind", **({"open": "open"} if not i else {})):
                name = view.viewer.words.known(f"mistake.{kind}", kind)
                text(f"{name}: {held.get('count', 0):,}", "summary", "pd-strong")
                meaning = view.viewer.words.known(f"mistake.{kind}.what", str(held.get("meaning", "")))
                text(meaning, "p", "pd-note", dir="auto")
                with box("div", "pd-tiles"):
                    for one in held["worst"][:_MISTAKES]:
                        mistake_tile(view.viewer.words, one, colors)


def mistake_tile(words: Words, one: Mapping[str, Any], colors: Mapping[str, str]) -> None:
    """One mistake as ``reports.mistakes_data`` keeps it."""
    with box("article", "pd-mistake", tabindex="0", data_row="1"):
        row = one.get("row")
        if isinstance(row, int):
            text(words("model.row", row=f"{row:,}"), "p", "pd-note")
        image = one.get("image")
        if isinstance(image, str) and _IMAGE.fullmatch(image):
            trusted("", "img", "pd-thumb", src=image, alt=words("model.row_image"), loading="lazy")
        if isinstance(shown := one.get("text"), str) and shown:
            trusted(_passage(shown, one, colors), "p", "pd-text", dir="auto")
        with box("dl", "pd-pairs"):
            sure = one.get("confidence")
            said = f"{words('model.answered')} {sure:.2f}" if isinstance(sure, int | float) else words("model.answered")
            for name, value in ((words("model.gold"), one.get("gold")), (said, one.get("answer"))):
                text(name, "dt", "pd-note")
                with box("dd"):
                    text(
                        str(value) if value else words("model.none"), "span", "pd-chip", dir="auto",
                        style=f"--c:{colors[str(value)]}" if value in colors else "",
                    )  # fmt: skip
        for pair in one.get("columns") or ():
            if isinstance(pair, list | tuple) and len(pair) == 2 and pair[1] != one.get("text"):
                with box("p", "pd-note"):
                    text(f"{pair[0]}: ", "span", "pd-strong", dir="auto")
                    text(str(pair[1]), "span", dir="auto")
        if one.get("suspicious"):
            text(words("model.suspicious"), "p", "pd-note pd-strong")
        if one.get("note"):
            text(str(one["note"]), "p", "pd-note", dir="auto")


def _passage(shown: str, one: Mapping[str, Any], colors: Mapping[str, str]) -> str:
    """The text with what the label and the model mark; the label's marks are dashed."""
    given = [mark for mark in one.get("marks") or () if isinstance(mark, Mapping)]
    about = [mark for mark in given if mark.get("focus")] or given
    marks = []
    for mark in about:
        try:
            start, end = int(mark["start"]), int(mark["end"])
            if 0 <= start < end <= len(shown):
                marks.append(
                    Mark(start, end, str(mark.get("label") or ""), "gold" if mark["side"] == "gold" else "answer")
                )
        except (TypeError, KeyError, ValueError):
            continue
    sides = {"gold": GOOD, "answer": BLUE}

    def opened(mark: Mark) -> str:
        return f'<mark class="pd-mark {mark.side}" style="--c:{escape(colors.get(mark.label) or sides[mark.side])}">'

    def behind(mark: Mark) -> str:
        return f'<span class="pd-tag">{plain_html(mark.label)}</span>' if mark.label else ""

    cut = one.get("cut") or (False, False)
    return f"{'…' if cut[0] else ''}{marked(shown, marks, opened, behind)}{'…' if cut[1] else ''}"
