"""The page where a file is answered: dropped, its answers streaming into a table, measured where it is labeled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import quote

from nicegui import background_tasks, context, ui
from starlette.requests import Request
from starlette.responses import RedirectResponse

from polydetr.errors import PolydetrError
from polydetr.serving.jobs import Job
from polydetr.serving.refusal import Refused
from polydetr.studio.batch_files import downloads, file_stem, suffixes
from polydetr.studio.batch_handover import hand_over, hand_over_doubtful
from polydetr.studio.batch_measured import MEASURED, Measured
from polydetr.studio.batch_routes import add_routes, job_of, owner_of, plan_of, store_of
from polydetr.studio.batch_rows import flags
from polydetr.studio.measured_parts import figure, metric_name, tile
from polydetr.studio.pages import UPLOAD_BYTES, Studio, View
from polydetr.web.components.drop import Drop
from polydetr.web.components.progress import Progress
from polydetr.web.components.table import Action, Table
from polydetr.web.markup import box, button, link, panel, text
from polydetr.web.notices import empty, failure, loading

_LOOK_S = 0.25
"""How often a page looks how far its batch is."""
_KEYS = (("Enter", "batch.keys.open"), ("d", "batch.keys.doubt"), ("c", "batch.keys.correct"))
_CLOSED = "event.target.closest('details').open = false"
_ENDED = ("done", "failed", "cancelled")


def add_batch(studio: Studio) -> None:
    """The addresses."""
    add_routes(studio)

    @ui.page("/{model}/batch")
    async def batch(request: Request, model: str, job: str = "") -> None:
        view = await studio.begin(request, "batch", model=model, keys=_KEYS)
        if view is None:
            return
        with view.main:
            if job:
                try:
                    await _Batch(view, await job_of(studio, request, model, job)).fill()
                    return
                except Refused as error:
                    failure(view.viewer.words, error)
            _begin(view)
            person = view.viewer.person.name
            _earlier(
                view, [one for one in store_of(studio).of(owner_of(person)) if one.answered and one.model == model]
            )

    @ui.page("/{model}/batch/correct/{id}")
    async def correct_doubtful(request: Request, model: str, id: str) -> RedirectResponse | None:
        return await _handed(studio, request, model, id, hand_over_doubtful)

    @ui.page("/{model}/batch/correct/{id}/{number}")
    async def correct_row(request: Request, model: str, id: str, number: int) -> RedirectResponse | None:
        def one(studio: Studio, job: Job, person: str) -> str:
            return hand_over(studio, job, person, number)

        return await _handed(studio, request, model, id, one)


async def _handed(
    studio: Studio, request: Request, model: str, id: str, hand_over: Callable[[Studio, Job, str], str]
) -> RedirectResponse | None:
    """To the page where rows of a batch are corrected; why none are is said on a page."""
    job: Job | None = None
    try:
        job, person = await job_of(studio, request, model, id), await studio.person_of(request.cookies)
        place = await asyncio.to_thread(hand_over, studio, job, person.name if person else "")
        return RedirectResponse(place, 303)
    except PolydetrError as error:
        if (view := await studio.begin(request, "batch", model=model)) is not None:
            with view.main:
                failure(view.viewer.words, error)
                if job is not None:
                    link(job.name, f"{_address(view)}?job={quote(id, safe='')}", classes="pd-button", icon="back",
                         dir="auto")  # fmt: skip
    return None


def _address(view: View, *parts: str) -> str:
    return "/".join(
        [view.studio.base, quote(view.info.name, safe=""), "batch", *(quote(part, safe="") for part in parts)]
    )


def _begin(view: View) -> None:
    """The empty page: what it is for, and the place where it begins."""
    words = view.words

    def sent(answer: Any) -> None:
        page = _address(view).removeprefix(view.studio.base)  # which is put before it again
        ui.navigate.to(f"{page}?job={quote(str(answer.get('id', '')), safe='')}")

    with panel(words("batch.begin")):
        text(words("batch.begin.what"))
        columns = view.info.columns
        if columns:
            text(
                words(
                    "batch.begin.columns", columns=", ".join(list(columns)[:12]) + ("…" if len(columns) > 12 else "")
                ),
                "p",
                "pd-note",
                dir="auto",
            )
        text(words("batch.begin.labeled"), "p", "pd-note")
        drop = Drop(
            view.viewer.words, address=_address(view, "upload", "rows"), suffixes=suffixes(), most=UPLOAD_BYTES,
            kinds=words("drop.kinds", kinds=", ".join(name[1:].upper() for name in suffixes())), on_sent=sent,
        )  # fmt: skip
        least = ui.number(words("batch.least"), min=0, max=1, step=0.05, on_change=lambda e: drop.say(least=e.value))
        least.props("outlined dense clearable").classes("pd-least")
        text(words("batch.least.hint"), "p", "pd-note")


def _earlier(view: View, jobs: list[Job]) -> None:
    """What the viewer has had answered before, and is still there."""
    if not jobs:
        return
    with panel(view.words("batch.earlier")), box("ul", "pd-list"):
        for job in reversed(jobs):
            with box("li", "pd-row"):
                link(job.name, f"{_address(view)}?job={quote(job.id, safe='')}", dir="auto")
                text(
                    f"{view.words(f'batch.is.{job.state}')} · {view.viewer.words.counted('batch.rows', job.rows_done)}",
                    "span",
                    "pd-note",
                )


class _Batch:
    """One batch on one page, while it is looked at."""

    def __init__(self, view: View, job: Job) -> None:
        self.view, self.job, self.words = view, job, view.words
        self.table: Table | None = None
        self.progress: Progress | None = None
        self.said = ("", 0)
        self.measured: Measured | None = None

    async def fill(self) -> None:
        job = self.job
        with box("div", "pd-row pd-batch-head"):
            text(job.name, "h2", "", dir="auto")
            box("span", "pd-grow")
            self.tools = box("div", "pd-row pd-downloads")
            link(self.words("batch.another"), _address(self.view), classes="pd-button", icon="upload")
        self.status = box("div", "pd-stack")
        self.scores = box("div")
        self.place = box("div")
        with self.place:
            self.waiting = loading(self.view.viewer.words)
        await self.look()
        if not self.over:
            self._accompany(self._follow())

    @property
    def over(self) -> bool:
        """Whether nothing of it will change any more."""
        measured = self.job.facts.get(MEASURED)
        running = isinstance(measured, Measured) and measured.state == "running"
        return self.job.state in _ENDED and not running and (self.job.task is None or self.job.task.done())

    def _accompany(self, work: Coroutine[Any, Any, None]) -> None:
        """Goes on while the page is there, and no longer."""
        client = context.client
        task = background_tasks.create(work, name="batch page")
        client.on_delete(task.cancel)

    async def _follow(self) -> None:
        with self.place:
            client = context.client
        await client.connected()
        while not self.over:
            await asyncio.sleep(_LOOK_S)
            await self.look()
        await self.look()

    async def look(self) -> None:
        """Shows how it stands now."""
        job = self.job
        if self.table is None and job.rows_done:
            await self._make_table()
        elif self.table is not None:
            self.table.grow(min(job.rows_done, len(job.answered or ())))
        if (job.state, job.rows_done) != self.said or job.state == "running":
            self._say()
        measured = job.facts.get(MEASURED)
        if measured is not self.measured:
            self.measured = measured
            await self._show_measured()

    async def _make_table(self) -> None:
        view, job, words = self.view, self.job, self.view.viewer.words
        plan = await plan_of(view.studio, job)
        self.place.clear()
        labels = [i for i, target in enumerate(plan.targets) if target not in plan.numeric]
        with self.place:
            self.table = Table(
                words, name=words("batch.table", file=job.name), columns=plan.columns(words),
                source=_address(view, "rows", job.id), detail=f"{_address(view, 'row', job.id)}/{{n}}",
                there=len(job.answered or ()), flags=flags(words),
                labels=(f"a{labels[0]}", words("batch.label")) if labels else None, doubt="q" if plan.sure else "",
                actions=self._actions(),
            )  # fmt: skip
        with self.tools:
            self._downloads()

    def _actions(self) -> list[Action]:
        """What may be done with one row."""
        if not self.view.viewer.may("editor"):
            return []
        return [Action(self.words("batch.correct"), f"{_address(self.view, 'correct', self.job.id)}/{{n}}", key="c")]

    def _downloads(self) -> None:
        """All rows as a link, those that are shown through the table."""
        words, job, table = self.words, self.job, self.table
        assert table is not None
        if self.view.viewer.may("editor"):
            link(
                words("batch.correct.all"), _address(self.view, "correct", job.id), classes="pd-button", icon="correct"
            )
        for name in ("all", "shown"):
            with box("details", "pd-choose right"):
                text(words(f"batch.save.{name}"), "summary", "pd-button", data_save=name)
                with box("div", "pd-menu"):
                    for suffix in downloads():
                        address = _address(self.view, "save", job.id, suffix[1:])
                        if name == "all":
                            item = link(suffix[1:].upper(), address, download="", data_suffix=suffix)
                            item.on("click", js_handler=f"event => {{ {_CLOSED} }}")
                            continue
                        item = button(suffix[1:].upper(), kind="quiet", data_suffix=suffix)
                        own = f"{file_stem(job.name)}-answers{suffix}"
                        item.on("click", js_handler=f"event => {{ {_CLOSED}; {table.saving(address, own)} }}")

    def _say(self) -> None:
        """Progress while it runs; what became of it afterwards, with what was odd on top."""
        job, words = self.job, self.view.viewer.words
        state, self.said = job.state, (job.state, job.rows_done)
        done = words.counted("batch.rows", job.rows_done)
        if state in ("waiting", "running"):
            if self.progress is None:
                with self.status:
                    self.progress = Progress(words, what=words("batch.running"), on_cancel=self._cancel)
            elapsed = time.monotonic() - job.began if job.began else 0.0
            said = words("batch.is.waiting") if state == "waiting" else words("batch.done.of", rows=done)
            self.progress.tell(said, share=job.share_done, elapsed_s=elapsed)
            return
        self.progress = None
        self.status.clear()
        with self.status:
            said = f"{words(f'batch.is.{state}')} · {done}"
            if job.rows_rejected:
                said += f" · {words.counted('batch.rejected', job.rows_rejected)}"
            text(said, "p", "pd-strong", role="status")
            if encoding := job.facts.get("encoding"):
                text(words("batch.encoding", encoding=encoding), "p", "pd-note")
            if state == "failed":
                found = job.error or {}
                failure(words, PolydetrError(str(found.get("message", "")), hint=found.get("hint")))
            if (info := self.view.studio.fleet.models().get(job.model)) and info.version != job.facts.get("version"):
                text(words("batch.exchanged"), "p", "pd-note")
        if self.table is None:
            self.place.clear()
            if state == "done":
                with self.place:
                    empty(words("batch.no_rows"))

    async def _cancel(self) -> None:
        await store_of(self.view.studio).cancel(self.job)
        await self.look()

    async def _show_measured(self) -> None:
        """Metrics above the table, gold beside the answers in it."""
        measured, words, view = self.measured, self.view.viewer.words, self.view
        self.scores.clear()
        if measured is None:
            return
        with self.scores, panel(words("batch.measured")):
            if measured.state == "running":
                text(words("batch.measuring"), "p", "pd-note", role="status")
            elif measured.error is not None:
                failure(words, measured.error)
            for target in measured.targets:
                if len(measured.targets) > 1:
                    text(target, "h3", dir="auto")
                with box("div", "pd-figures"):
                    for name, value, interval in measured.metrics(target):
                        tile(words, metric_name(name), figure(value), interval)
            for line in measured.lines:
                text(line, "p", "pd-note", dir="auto")
            with box("div", "pd-row"):
                for number, page in enumerate(measured.pages):
                    of = (
                        f" · {page.removesuffix('-mistakes.html').partition('-')[2]}" if len(measured.pages) > 1 else ""
                    )
                    address = _address(view, "mistakes", self.job.id, str(number))
                    link(words("batch.mistakes") + of, address, classes="pd-button", target_="_blank")
        if measured.state == "done" and self.table is not None:
            plan = await plan_of(view.studio, self.job)
            self.table.renew(columns=plan.columns(words), flags=flags(words, measured=True))
