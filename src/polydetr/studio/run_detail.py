"""One run with everything that its folder tells, and several beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from polydetr.core.clock import format_seconds
from polydetr.errors import ModelFolderError
from polydetr.inference.folder import own_file
from polydetr.inference.run_comparison import UNSET, changed_settings, differing_settings, is_like, scores_beside
from polydetr.inference.saved_run import SavedRun
from polydetr.studio.measured_parts import figure, learning_curves, metric_name
from polydetr.studio.run_words import said_value, unique_names
from polydetr.studio.runs_list import state_of, when
from polydetr.web.components.chart import Chart
from polydetr.web.components.chart_data import lines
from polydetr.web.markup import box, fact, facts, link, panel, text

if TYPE_CHECKING:
    from polydetr.studio.pages import View

_MOST_TRIALS = 200


def run_part(view: View, run: SavedRun) -> None:
    """Facts, scores, curves, settings, pictures, card."""
    words = view.words
    with panel(run.name):
        state_of(view, run)
        rows = run.found("rows", kind=dict) or {}
        machine = run.found("machine", kind=dict) or {}
        inputs = [
            str(one.get("name")) for one in run.found("schema", "inputs", kind=list) or [] if isinstance(one, Mapping)
        ]
        known = {
            "model.answers": ", ".join(run.targets),
            "model.reads": ", ".join(inputs),
            "runs.rows": ", ".join(f"{n} {c:,}" for n, c in rows.items() if isinstance(c, int) and c),
            "runs.steps": "" if run.steps is None else f"{run.steps:,}",
            "runs.seconds": "" if run.seconds is None else format_seconds(run.seconds),
            "model.backbone": str(run.found("config", "backbone", kind=str) or ""),
            "runs.machine": ", ".join(str(machine[key]) for key in ("system", "device", "threads") if key in machine),
        }
        with facts({words(name): value for name, value in known.items()}), fact(words("runs.when")):
            when(run)
        served = [n for n, m in view.studio.fleet.models().items() if Path(m.folder).resolve() == run.folder.resolve()]
        if served:
            link(words("runs.model_page"), f"{view.studio.base}/{quote(served[0], safe='')}/model", icon="model")
        elif run.state == "finished":
            text(words("runs.serve"), "p", "pd-note")
            text(f"polydetr serve {run.folder.name}={run.folder}", "code", "pd-code")
    _scores(view, run)
    if curves := learning_curves(view.viewer.words, run.history):
        with box("div", "pd-columns pd-charts"):
            for data in curves:
                with box("section", "pd-panel", aria_label=data.label):
                    Chart(view.viewer.words, data)
    _settings(view, run)
    _study(view, run)
    _pictures(view, run)
    _card(view, run)


def _scores(view: View, run: SavedRun) -> None:
    scores = scores_beside([run])
    if scores:
        with panel(view.words("runs.scores")):
            _scores_table(view, scores, [run.name])


def _scores_table(
    view: View, scores: Mapping[tuple[str, str, str], Sequence[float | None]], names: Sequence[str]
) -> None:
    several = len({target for _, target, _ in scores}) > 1
    with (
        box("div", "pd-scroll", tabindex="0", role="region", aria_label=view.words("runs.scores")),
        box("table", "pd-table"),
    ):
        with box("thead"), box("tr"):
            text(view.words("runs.score"), "th", scope="col")
            for name in names:
                text(name, "th", "pd-number", scope="col", dir="auto")
        with box("tbody"):
            for (split, target, metric), values in scores.items():
                if metric.endswith(("_low", "_high", "total")):
                    continue
                with box("tr"):
                    said = f"{target} " if several else ""
                    group = view.viewer.words.known(f"split.{split}", split)
                    text(f"{said}{metric_name(metric)}, {group}", "th", scope="row", dir="auto")
                    for value in values:
                        text("–" if value is None else figure(value), "td", "pd-number")


def _settings(view: View, run: SavedRun) -> None:
    changed = changed_settings(run)
    if not changed:
        return
    with panel(view.words("runs.settings"), note=view.words("runs.settings.note")), box("table", "pd-table"):
        with box("thead"), box("tr"):
            for name in ("runs.setting", "runs.value", "runs.usual"):
                text(view.words(name), "th", scope="col")
        with box("tbody"):
            for key, (value, usual) in changed.items():
                _line(key, (value, usual))


def _line(key: str, values: Sequence[Any]) -> None:
    with box("tr"):
        text(key, "th", scope="row", dir="auto")
        for value in values:
            text(said_value(value), "td", dir="auto")


def _study(view: View, run: SavedRun) -> None:
    if run.study is None:
        return
    words, study = view.words, run.study
    with panel(words("runs.trials"), note=study.metric), box("table", "pd-table pd-cards"):
        with box("thead"), box("tr"):
            for name in ("runs.trial", "runs.state", "runs.score", "runs.settings"):
                text(words(name), "th", scope="col")
        with box("tbody"):
            for trial in study.trials[:_MOST_TRIALS]:
                with box("tr"):
                    best = f" · {words('runs.best')}" if trial.number == study.best else ""
                    text(f"{trial.number}{best}", "th", scope="row")
                    text(trial.state, "td", data_label=words("runs.state"))
                    score = "–" if trial.score is None else figure(trial.score)
                    text(score, "td", "pd-number", data_label=words("runs.score"))
                    said = ", ".join(f"{key} {said_value(value)}" for key, value in trial.settings.items())
                    text(said, "td", data_label=words("runs.settings"), dir="auto")


def _pictures(view: View, run: SavedRun) -> None:
    try:
        files = sorted(path.name for path in (run.folder / "reports").glob("*.png"))[:60]
    except OSError:
        files = []
    if not files:
        return
    with panel(view.words("runs.pictures")), box("div", "pd-row"):
        for file in files:
            place = f"{view.studio.base}/runs/picture/{quote(run.name, safe='')}/{quote(file, safe='')}"
            link(
                Path(file).stem.replace("-", " ").replace("_", " "),
                place,
                classes="pd-tab",
                target_="_blank",
                rel="noopener",
            )


def _card(view: View, run: SavedRun) -> None:
    try:
        card = own_file(run.folder, "README.md").read_text(encoding="utf-8", errors="replace")[:40_000]
    except (ModelFolderError, OSError):
        return
    with panel(view.words("model.card")), box("details"):
        text(view.words("model.card.show"), "summary")
        text(card, "pre", "pd-code", dir="auto")


def compare_part(view: View, runs: Sequence[SavedRun]) -> None:
    """Curves in one chart, what was set otherwise, scores."""
    words, names = view.viewer.words, unique_names(runs)
    if not is_like(runs):
        text(words("runs.not_alike"), "p", "pd-note")
    curves = {name: run.curve for name, run in zip(names, runs, strict=True) if run.curve}
    if curves:
        with box("section", "pd-panel", aria_label=words("runs.curves")):
            Chart(
                words,
                lines(words("runs.curves"), curves, x=words("curve.step"), y=words("curve.score.unit")),
                height=400,
            )
    with panel(words("runs.scores")):
        _scores_table(view, scores_beside(runs), names)
    settings = differing_settings(runs)
    with panel(words("runs.differ")):
        if not settings:
            text(words("runs.same"), "p", "pd-note")
            return
        with (
            box("div", "pd-scroll", tabindex="0", role="region", aria_label=words("runs.differ")),
            box("table", "pd-table"),
        ):
            with box("thead"), box("tr"):
                text(words("runs.setting"), "th", scope="col")
                for name in names:
                    text(name, "th", scope="col", dir="auto")
            with box("tbody"):
                for key, values in settings.items():
                    _line(key, [UNSET if value is None else value for value in values])
