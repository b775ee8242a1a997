"""The folder of runs, on the page: those under way with their curves, live, and a table of all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from polydetr.core.clock import format_seconds
from polydetr.errors import InputError
from polydetr.inference.runs import list_runs, running_runs
from polydetr.inference.saved_run import SavedRun
from polydetr.studio.measured_parts import figure, learning_curves, metric_name
from polydetr.studio.run_words import differing, first_score, seconds_left, share_done
from polydetr.studio.trainings import Trainings
from polydetr.web.components.chart import Chart
from polydetr.web.live import follow
from polydetr.web.markup import Native, box, button, icon_svg, link, panel, text, trusted
from polydetr.web.notices import confirmed, empty
from polydetr.web.people.audit import Audit

if TYPE_CHECKING:
    from polydetr.studio.pages import View

LIVE_S, IDLE_S = 1.0, 5.0
"""How often is looked at what goes on: where something does, and where nothing does."""
MOST_RUNS = 500
_LOG_LINES = 40


class RunsList:
    """The page without a choice."""

    def __init__(self, view: View, folder: Path, trainings: Trainings | None) -> None:
        self._view, self._folder, self._trainings = view, folder, trainings
        self._words = view.viewer.words
        self._under_way: dict[str, UnderWay] = {}
        self._seconds = IDLE_S

    async def build(self) -> None:
        """Everything as it is now, and from then on live."""
        words, viewer, studio = self._words, self._view.viewer, self._view.studio
        with box("div", "pd-row pd-choices"):
            if self._trainings is not None and viewer.may("admin"):
                link(words("runs.new"), f"{studio.base}/runs?new=1", classes="pd-button primary", icon="play")
            else:
                text(words("runs.new.off" if not studio.may_train else "runs.new.admin"), "p", "pd-note")
        self._live = box("div", aria_live="polite")
        self._table = box("div")
        await self._look()
        await self._listed()
        follow(self._again, seconds=LIVE_S)

    async def _again(self) -> bool:
        if self._seconds > LIVE_S:
            await asyncio.sleep(self._seconds - LIVE_S)
        if await self._look():
            await self._listed()
        return True

    async def _listed(self) -> None:
        try:
            runs = await asyncio.to_thread(list_runs, self._folder)
        except InputError:  # there is no such folder yet
            runs = []
        self._table.clear()
        with self._table:
            self._filled(runs)

    def _filled(self, runs: Sequence[SavedRun]) -> None:
        words, base = self._words, self._view.studio.base
        if not runs:
            if not self._under_way:
                empty(words("runs.none"), how=words("runs.none.how"))
            return
        title = words("runs.title")
        with box("form", method="get", action=f"{base}/runs"), panel(title, note=words("runs.compare.note")):
            with box("div", "pd-row"):
                text(words("runs.compare"), "button", "pd-button", type="submit")
            with box("table", "pd-table pd-cards"):
                with box("thead"), box("tr"):
                    for name in ("choose", "run", "state", "score", "seconds", "settings", "when"):
                        number = "pd-number" if name in ("score", "seconds") else ""
                        text(words(f"runs.{name}"), "th", number, scope="col")
                with box("tbody"):
                    for run in runs[:MOST_RUNS]:
                        self._row(run)
            if len(runs) > MOST_RUNS:
                text(words("runs.more", count=f"{len(runs) - MOST_RUNS:,}"), "p", "pd-note")

    def _row(self, run: SavedRun) -> None:
        words, base = self._words, self._view.studio.base
        with box("tr", "", tabindex="0", data_row="1"):
            with box("td", "", data_label=words("runs.choose")):
                if run.state in ("finished", "running", "stopped"):
                    box(
                        "input", "", type="checkbox", name="compare", value=run.name,
                        aria_label=words("runs.choose.one", name=run.name),
                    )  # fmt: skip
            with box("th", "", scope="row"):
                link(run.name, f"{base}/runs?run={quote(run.name, safe='')}", dir="auto")
            with box("td", "", data_label=words("runs.state")):
                state_of(self._view, run)
            score = first_score(run)
            with box("td", "pd-number", data_label=words("runs.score")):
                if score is not None:
                    text(figure(score[1]), "span", "pd-digits")
                    split = words.known(f"split.{score[2]}", score[2])
                    text(f" {metric_name(score[0])}, {split}", "span", "pd-note", dir="auto")
            seconds = "" if run.seconds is None else format_seconds(run.seconds)
            text(seconds, "td", "pd-number", data_label=words("runs.seconds"))
            text(differing(run), "td", data_label=words("runs.settings"), dir="auto")
            with box("td", "", data_label=words("runs.when")):
                when(run)

    # -- what is under way ---------------------------------------------------------------------------------------------

    async def _look(self) -> bool:
        """Shows how far the runs under way are; whether one has begun or ended since."""
        runs = {run.name: run for run in await asyncio.to_thread(running_runs, self._folder)}
        ours = self._trainings.running if self._trainings is not None else None
        if ours is not None and ours.name not in runs:
            runs[ours.name] = SavedRun(ours.name, ours.out, "running")
        changed = runs.keys() != self._under_way.keys()
        for name in [name for name in self._under_way if name not in runs]:
            self._under_way.pop(name).end()
        for name, run in runs.items():
            if name not in self._under_way:
                with self._live:
                    self._under_way[name] = UnderWay(self._view, run, self._trainings)
            await self._under_way[name].show(run)
        self._seconds = LIVE_S if runs else IDLE_S
        if changed:
            self._say_last()
        return changed

    def _say_last(self) -> None:
        """How the training that was started here ended, where it failed: its own words."""
        last = self._trainings.last if self._trainings is not None else None
        if last is None or last.code in (None, 0) or last.stopping or last.name in self._under_way:
            return
        with self._live, box("div", "pd-state bad", role="alert") as state:
            trusted(icon_svg("warning"), "span", "pd-icon", aria_hidden="true")
            with box("div", "pd-grow"):
                text(self._words("runs.failed", name=last.name), "p", "pd-strong", dir="auto")
                text("\n".join(last.tail().splitlines()[-6:]), "pre", "pd-code", dir="auto")
                button(self._words("frame.close"), state.delete)


def state_of(view: View, run: SavedRun) -> None:
    """The state with its mark, and what is wrong."""
    marks = {"finished": ("check", "good"), "running": ("play", "accent"), "damaged": ("warning", "bad"),
             "failed": ("warning", "bad"), "stopped": ("stop", "warn"), "study": ("search", "accent")}  # fmt: skip
    icon, kind = marks[run.state]
    with box("span", f"pd-state-word pd-{kind}"):
        trusted(icon_svg(icon), "span", "pd-icon", aria_hidden="true")
        text(view.words(f"runs.state.{run.state}"), "span")
    if run.reason:
        text(run.reason, "p", "pd-note", dir="auto")


def when(run: SavedRun) -> None:
    """When it was begun; of a run that does not say, when it was last changed."""
    created = run.info.get("created")
    if not (isinstance(created, str) and len(created) < 40):
        created = datetime.fromtimestamp(run.changed, UTC).isoformat(timespec="seconds")
    text(created, "time", datetime=created)


class UnderWay:
    """One training in progress: a bar, the time left, its curve as it grows, its log where it was started here."""

    def __init__(self, view: View, run: SavedRun, trainings: Trainings | None) -> None:
        self._view, self._name, self._trainings = view, run.name, trainings
        words, ours = view.viewer.words, self._is_ours
        self._words = words
        self._charts: list[Chart] = []
        self._drawn, self._said, self._logged = -1, "", ""
        with panel(words("runs.under_way", name=run.name)) as self.element:
            self._note = text(words("runs.starting"), "p", "pd-note pd-digits")
            self._bar = box(
                "progress", "pd-bar-wide", max="1", value="0", aria_label=words("runs.done_of", name=run.name)
            )
            with box("div", "pd-row"):
                if ours and view.viewer.may("admin"):
                    self._stop = button(words("runs.stop"), self._asked_to_stop, kind="danger", icon="stop")
                elif not ours:
                    text(words("runs.elsewhere"), "p", "pd-note")
            self._place = box("div", "pd-columns pd-charts")
            if ours:
                with box("details", "", open="open"):
                    text(words("runs.log"), "summary")
                    self._log: Native | None = text("", "pre", "pd-code pd-log", dir="auto", tabindex="0")
            else:
                self._log = None

    @property
    def _is_ours(self) -> bool:
        running = self._trainings.running if self._trainings is not None else None
        return running is not None and running.name == self._name

    async def show(self, run: SavedRun) -> None:
        """What changed since the last time, and nothing else, is sent."""
        words, progress = self._words, run.progress
        share, left = share_done(progress), seconds_left(progress)
        parts = [f"{share:.0%}"]
        if isinstance(progress.get("step"), int):
            parts.append(words("runs.step", step=f"{progress['step']:,}"))
        if isinstance(progress.get("loss"), float):
            parts.append(words("runs.loss", loss=f"{progress['loss']:.3f}"))
        if isinstance(progress.get("pace"), str):
            parts.append(progress["pace"])
        if left is not None and share < 1:
            parts.append(words("runs.left", time=format_seconds(left)))
        doing = progress.get("doing")
        said = " · ".join(parts) if progress.get("step") else str(doing or words("runs.starting"))[:300]
        if share >= 1:
            said = words("runs.measuring")
        if said != self._said:
            self._said, self._note.text = said, said
            self._bar._props["value"] = f"{share:.4f}"
            self._bar.update()
        if len(run.history) != self._drawn:
            self._drawn = len(run.history)
            self._draw(run)
        if self._log is not None and self._trainings is not None and self._trainings.last is not None:
            tail = await asyncio.to_thread(self._trainings.last.tail)
            if tail != self._logged:
                self._logged, self._log.text = tail, "\n".join(tail.splitlines()[-_LOG_LINES:])

    def _draw(self, run: SavedRun) -> None:
        curves = learning_curves(self._words, run.history)
        if len(curves) != len(self._charts):
            self._place.clear()
            with self._place:
                self._charts = [Chart(self._words, data, height=240) for data in curves]
            return
        for chart, data in zip(self._charts, curves, strict=True):
            chart.show(data)

    async def _asked_to_stop(self) -> None:
        person = await self._view.viewer.require("admin")
        words = self._words
        if not await confirmed(words, words("runs.stop.sure", name=self._name), action=words("runs.stop")):
            return
        if self._trainings is not None and self._is_ours and self._trainings.stop():
            self._stop._props["disabled"] = True
            self._stop.update()
            self._said, self._note.text = "", words("runs.stopping")
            audit = Audit(self._view.studio.database)
            await asyncio.to_thread(audit.note, person.name or "(this machine)", "training stopped", self._name)

    def end(self) -> None:
        """It is over: nothing of it stays."""
        self.element.delete()
