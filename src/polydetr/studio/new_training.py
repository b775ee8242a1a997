"""A training started from a page: the file is sent, looked at, and only then is anything chosen."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nicegui import ui

from polydetr.errors import PolydetrError
from polydetr.fetch.catalog import BACKBONES
from polydetr.studio.batch_files import suffixes
from polydetr.studio.looked_at import LookedAt, look_at
from polydetr.studio.pages import UPLOAD_BYTES
from polydetr.studio.sent_files import SentFiles, without_place
from polydetr.studio.trainings import PRESETS, Trainings, Wanted
from polydetr.web.components.drop import Drop
from polydetr.web.markup import box, button, panel, text
from polydetr.web.notices import failure, loading
from polydetr.web.people.audit import Audit

if TYPE_CHECKING:
    from polydetr.studio.pages import View

_MOST_MINUTES = 24 * 60


class NewTraining:
    """The steps on one page: a file, what is in it, what to learn."""

    def __init__(self, view: View, trainings: Trainings | None, sent: SentFiles | None) -> None:
        self._view, self._trainings, self._words = view, trainings, view.viewer.words
        self._sent_files = sent
        self._file: Path | None = None

    def build(self) -> None:
        """Where nothing may be started, how that is changed."""
        words = self._words
        if self._trainings is None:
            with panel(words("runs.new")):
                text(words("runs.new.off"), "p")
                text("polydetr serve --may-train MODEL", "code", "pd-code")
            return
        if not self._view.viewer.may("admin"):
            text(words("runs.new.admin"), "p", "pd-note")
            return
        with panel(words("new.file"), note=words("new.file.note")):
            Drop(
                words, address=f"{self._view.studio.base}/runs/upload/rows", suffixes=suffixes(), most=UPLOAD_BYTES,
                kinds=", ".join(name[1:].upper() for name in suffixes()), on_sent=self._sent,
            )  # fmt: skip
        self._place = box("div", aria_live="polite")
        self._view.main.client.on_delete(self._left)

    async def _left(self) -> None:
        """The page is closed: a file that nothing was begun with goes."""
        if self._file is not None and self._sent_files is not None:
            await asyncio.to_thread(self._sent_files.forget, self._file)
            self._file = None

    async def _sent(self, answer: Mapping[str, Any]) -> None:
        await self._view.viewer.require("admin")
        assert self._sent_files is not None
        await self._left()
        self._place.clear()
        with self._place:
            loading(self._words)
        try:
            self._file = await asyncio.to_thread(self._sent_files.path, answer.get("id"))
            await self._look(None)
        except PolydetrError as error:
            self._place.clear()
            with self._place:
                failure(self._words, without_place(error, self._file) if self._file else error)

    async def _look(self, targets: list[str] | None) -> None:
        """What ``inspect`` says, with these targets; with those that it guesses at first."""
        assert self._file is not None
        found = await asyncio.to_thread(look_at, self._file, targets)
        if targets is None:
            self._place.clear()
            with self._place:
                self._about = box("div")
                self._form(found)
        self._about.clear()
        with self._about:
            self._found(found)

    async def _chosen(self, targets: list[str]) -> None:
        """Other targets: what is to be careful with may be another thing."""
        if not targets:
            return
        try:
            await self._look(targets)
        except PolydetrError as error:
            self._about.clear()
            with self._about:
                failure(self._words, without_place(error, self._file) if self._file else error)

    # -- what is in the file -------------------------------------------------------------------------------------------

    def _found(self, found: LookedAt) -> None:
        words = self._words
        with panel(words("new.found"), note=words("new.rows", count=f"{found.rows:,}")):
            with box("table", "pd-table pd-cards"):
                with box("thead"), box("tr"):
                    for name in ("column", "kind", "missing", "distinct", "example"):
                        number = "pd-number" if name in ("missing", "distinct") else ""
                        text(words(f"new.{name}"), "th", number, scope="col")
                with box("tbody"):
                    for one in found.columns:
                        with box("tr"):
                            text(one.name, "th", scope="row", dir="auto")
                            text(self._kind(one.kind), "td", data_label=words("new.kind"))
                            text(f"{one.missing:,}", "td", "pd-number", data_label=words("new.missing"))
                            text(one.distinct, "td", "pd-number", data_label=words("new.distinct"))
                            text(one.example, "td", dir="auto", data_label=words("new.example"))
            for name, labels in found.labels.items():
                text(f"{name}: {labels}", "p", "pd-note", dir="auto")
            text(words("new.cautions"), "h3")
            with box("ul", "pd-bullets"):
                for line in found.findings:
                    text(line, "li", dir="auto")

    def _kind(self, kind: str) -> str:
        if kind.startswith("→"):
            task = kind.removeprefix("→ ")
            return f"→ {self._words.known(f'task.{task}', task)}"
        return self._words.known(f"modality.{kind}", kind)

    # -- what to learn -------------------------------------------------------------------------------------------------

    def _form(self, found: LookedAt) -> None:
        words, names = self._words, [one.name for one in found.columns]
        assert self._file is not None
        with panel(words("new.learn")), box("div", "pd-stack pd-form"):
            target = ui.select(names, value=found.targets, multiple=True, label=words("new.target")).props(
                "outlined use-chips"
            )
            target.on_value_change(lambda event: self._chosen(list(event.value or ())))
            name = ui.input(words("new.name"), value=self._file.stem).props("outlined maxlength=60")
            preset = ui.select(
                {p: words(f"new.preset.{p}") for p in PRESETS}, value="balanced", label=words("new.preset")
            ).props("outlined")
            backbone = ui.select(self._backbones(found), value="auto", label=words("new.backbone")).props("outlined")
            minutes = ui.number(words("new.minutes"), value=10, min=0, max=_MOST_MINUTES, precision=1).props("outlined")
            text(words("new.minutes.note"), "p", "pd-note")
            self._said = box("div", role="alert")
            with box("div", "pd-row"):
                self._begin = button(
                    words("new.begin"),
                    lambda: self._start(
                        list(target.value or ()), name.value, preset.value, backbone.value, minutes.value
                    ),
                    kind="primary", icon="play",
                )  # fmt: skip

    def _backbones(self, found: LookedAt) -> dict[str, str]:
        """What ``--backbone`` takes → how it is called here: the known ones of the kinds of input that the file has."""
        words, kinds = self._words, {one.kind for one in found.columns}
        named = {
            f"{one.kind}={one.name}": words(f"new.backbone.{one.kind}", name=one.name, size=one.sources[0].megabytes)
            for one in BACKBONES.values() if one.kind in kinds
        }  # fmt: skip
        return {**{one: words(f"new.backbone.{one}") for one in ("auto", "none")}, **named}

    async def _start(self, targets: list[str], name: Any, preset: str, backbone: str, minutes: Any) -> None:
        viewer, words = self._view.viewer, self._words
        person = await viewer.require("admin")
        assert self._trainings is not None
        assert self._file is not None
        self._said.clear()
        try:
            free = await asyncio.to_thread(self._trainings.free_name, str(name or "model"))
            wanted = Wanted(free, self._file, targets, str(backbone), str(preset), float(minutes or 0))
            started = await self._trainings.start(wanted)
        except PolydetrError as error:
            with self._said:
                failure(words, error)
            return
        self._file = None
        about = {"preset": wanted.preset, "backbone": wanted.backbone, "minutes": wanted.minutes}
        audit = Audit(self._view.studio.database)
        await asyncio.to_thread(
            lambda: audit.note(person.name or "(this machine)", "training started", started.name, **about)
        )
        ui.navigate.to("/runs")  # it puts what stands before our addresses there itself
