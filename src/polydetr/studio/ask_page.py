"""What happens on the page Ask: a row is sent, its answer replaces the one before in its place."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from nicegui import context, ui

from polydetr.errors import PolydetrError
from polydetr.serving.asking import model_named, replies_to
from polydetr.serving.contract import Ask, ModelInfo, Reply
from polydetr.serving.request_code import curl_line, python_lines
from polydetr.serving.rows import Columns, items_of
from polydetr.studio.address import Asked
from polydetr.studio.answer_parts import parts_of
from polydetr.studio.answer_view import show_part
from polydetr.studio.handed_rows import Handed
from polydetr.studio.pages import View
from polydetr.studio.why import Why
from polydetr.studio.withholding import judged, least_of
from polydetr.web.components.code_tabs import CodeTabs
from polydetr.web.components.row_form import RowForm
from polydetr.web.components.row_values import Field
from polydetr.web.markup import box, button, panel, text
from polydetr.web.notices import empty, failure, loading, notice

_LOGGER = logging.getLogger("polydetr.studio")
_IMAGES = 4
"""How many images are drawn at once, each by its seed."""
_LONGEST_IN_CODE = 4_000
Row = dict[str, Any]


class AskPage:
    """One browser's page. asked: what its address says; origin: how the browser calls this service, as far as is known
    before it says so itself.
    """

    def __init__(self, view: View, fields: list[Field], examples: list[Row], asked: Asked, *, origin: str) -> None:
        self.view, self.words, self.studio = view, view.viewer.words, view.studio
        self.fields, self.examples, self.asked, self.origin = fields, examples, asked, origin
        self.version, self.name = view.info.version, view.info.name
        self.shown: tuple[ModelInfo, Row, Reply] | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._next, self._begun = 0, False
        self.draws = any(answer.get("x-task") == "generation" for answer in view.info.answers.values())

    # -- the page -----------------------------------------------------------------------------------------------------

    def build(self) -> None:
        words = self.words
        with box("div", "pd-columns"):
            with panel(words("ask.row")):
                begin = self.asked.row or None
                self.form = RowForm(words, self.fields, on_ask=self.ask, on_example=self.example, begin=begin,
                                    most_bytes=min(self.studio.limits.body_bytes, 16 << 20))  # fmt: skip
                self._options()
            with panel(words("ask.answer"), classes="pd-answer") as self.panel:
                self.said = text("", "p", "pd-note pd-exchanged", role="status")
                self.late = text("", "p", "pd-note pd-late-line", role="status")
                self.place = box("div", "pd-answer-place", aria_live="polite")
                with self.place:
                    empty(words("ask.empty"), how=words("ask.empty.how"), begin=words("form.example"),
                          on_begin=self.example)  # fmt: skip
        with panel(words("code.title"), note=words("code.note")):
            self.code = CodeTabs(
                words, self._codes(dict(self.asked.row) or self.examples[-1]), label=words("code.title")
            )

    def _options(self) -> None:
        words, withholds = self.words, bool(judged(self.view.info))
        if not (withholds or self.draws):
            return
        opened = {"open": True} if self.asked.least is not None or self.asked.accuracy is not None else {}
        with box("details", "pd-more", **opened):
            text(words("ask.options"), "summary")
            with box("div", "pd-options"):
                if withholds:
                    self._number("least", self.asked.least, step=0.05)
                    self._number("accuracy", self.asked.accuracy, step=0.01)
                if self.draws:
                    self._number("seed", self.asked.seed, step=1, most=None)

    def _number(self, name: str, value: float | None, *, step: float, most: float | None = 1.0) -> None:
        def changed(event: Any) -> None:
            found = event.value
            bad = found is not None and not (0 <= found <= (most or 2**53))
            if bad:
                return
            given = int(found or 0) if name == "seed" else found
            self.asked = replace(self.asked, **{name: given})
            if self.shown is not None:
                self.ask(self.shown[1], self.origin)

        entry = ui.number(self.words(f"ask.{name}"), value=value, min=0, max=most, step=step, on_change=changed)
        entry.props("outlined dense debounce=400 clearable")
        text(self.words(f"ask.{name}.note"), "p", "pd-note")

    # -- what a person does -------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The browser is there: a row that the address names is answered, once."""
        if self._begun:
            return
        self._begun = True
        if self.asked.row:
            self.ask({one.name: self.asked.row.get(one.name) for one in self.fields}, self.origin)

    def end(self) -> None:
        """The browser has left: nobody waits for an answer any more."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    def example(self) -> None:
        """The next of the examples, into the form."""
        row = self.examples[self._next % len(self.examples)]
        self._next += 1
        self.form.fill(row)
        self.ask({one.name: row.get(one.name) for one in self.fields}, self.origin)

    def ask(self, row: Row, origin: str) -> None:
        """Asks; an answer that is still on its way is not waited for any more."""
        if origin.startswith(("http://", "https://")):
            self.origin = origin
        self.run("answer", self._answer(row))

    async def correct(self) -> None:
        """Hands the row and its answer to the page Correct."""
        await self.view.viewer.require("editor")
        if self.shown is None:
            return
        info, row, reply = self.shown
        handed = Handed(self.name, info.version, row, reply, self.view.viewer.person.name)
        name = self.studio.handover.put(handed)
        ui.navigate.to(f"/{quote(self.name, safe='')}/correct?row={name}")  # NiceGUI knows what stands before it

    def run(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """In the place of what ran under this name; what fails is said on the page."""
        if (before := self._tasks.get(name)) is not None:
            before.cancel()
        client = context.client

        async def guarded() -> None:
            try:
                await self.view.viewer.require("viewer")  # the page may be open for longer than its session
                await work
            except PolydetrError as error:
                work.close()
                client.handle_exception(error)
            except Exception:
                _LOGGER.exception("the page Ask failed")
                with client:
                    notice(self.words("state.fault"), kind="bad")

        task = asyncio.get_running_loop().create_task(guarded())
        self._tasks[name] = task
        task.add_done_callback(lambda done: self._tasks.pop(name) if self._tasks.get(name) is done else None)

    # -- the answer ---------------------------------------------------------------------------------------------------

    async def _answer(self, row: Row) -> None:
        self._waiting(True)
        try:
            info = model_named(self.studio.fleet, self.name)
            replies = await self._replies(info, row)
        except PolydetrError as error:
            self._failed(error, row)
            return
        finally:
            if self._tasks.get("answer") in (None, asyncio.current_task()):  # no later question waits
                self._waiting(False)
        info = self._exchanged(info)
        reply = replies[0]
        self.form.blame({})
        if "error" in reply:
            self._rejected(reply["error"])
        else:
            self.shown = info, row, reply
            self._show(info, row, replies)
        self._remember(row)

    async def _replies(self, info: ModelInfo, row: Row) -> list[Reply]:
        """The reply; and those by other seeds, where the model draws at random."""
        items = items_of([row], Columns.of(info))
        ask = Ask(
            probabilities=True, min_confidence=self.asked.least, accuracy=self.asked.accuracy, seed=self.asked.seed
        )
        seeds = range(ask.seed, ask.seed + (_IMAGES if self.draws else 1))
        timeout_s = self.studio.limits.timeout_s
        found = await asyncio.gather(
            *(
                replies_to(self.studio.fleet, self.name, items, replace(ask, seed=seed), timeout_s=timeout_s)
                for seed in seeds
            )
        )  # fmt: skip
        return [reply for replies in found for reply in replies]

    def _waiting(self, on: bool) -> None:
        """The answer before stays where it is, dimmed; a text comes after a second."""
        self.place.props["aria-busy"] = "true" if on else "false"
        self.panel.classes(add="busy" if on else None, remove=None if on else "busy")
        self.late.set_text(self.words("state.loading") if on else "")
        if on and self.shown is None:
            self.place.clear()
            with self.place:
                loading(self.words)

    def _exchanged(self, before: ModelInfo) -> ModelInfo:
        """The model that is there now; where it is another than the page knew, that is said."""
        info = self.studio.fleet.models().get(self.name, before)
        if info.version != self.version:
            self.version = info.version
            self.said.set_text(self.words("ask.exchanged", version=info.version[:12]))
        return info

    def _failed(self, error: PolydetrError, row: Row) -> None:
        self.shown = None
        self.place.clear()
        with self.place:
            failure(self.words, error, retry=lambda: self.ask(row, self.origin))

    def _rejected(self, error: Mapping[str, Any]) -> None:
        """The row's own error, beside the column that it names, and in the place of the answer."""
        self.shown = None
        column = (error.get("location") or {}).get("column")
        self.form.blame({column: str(error["message"])} if column else {})
        self.place.clear()
        with self.place, box("div", "pd-state bad", role="alert"), box("div"):
            text(
                self.words("ask.rejected", column=column) if column else self.words("ask.rejected_row"),
                "p",
                "pd-strong",
            )
            text(str(error["message"]), "p", dir="auto")
            if error.get("hint"):
                text(str(error["hint"]), "p", "pd-note", dir="auto")

    def _show(self, info: ModelInfo, row: Row, replies: list[Reply]) -> None:
        least = least_of(info, min_confidence=self.asked.least, accuracy=self.asked.accuracy)
        each = [parts_of(info, row, reply, least=least) for reply in replies if "error" not in reply]
        self.place.clear()
        with self.place:
            for number, part in enumerate(each[0]):
                drawn = [(self.asked.seed + i, parts[number]) for i, parts in enumerate(each)] if self.draws else []
                with box("section", "pd-part", aria_label=part.target):
                    show_part(self.words, part, source=self._source, drawn=drawn)
                    Why(self, row, part).build(first=number == 0)
            self._warnings(replies[0])
            if self.view.viewer.may("editor"):
                with box("div", "pd-row pd-actions"):
                    button(self.words("ask.correct"), self.correct, icon="correct", key="c")

    def _warnings(self, reply: Reply) -> None:
        if not (found := reply.get("warnings")):
            return
        with box("div", "pd-warnings"):
            text(self.words("ask.warnings"), "h3")
            with box("ul"):
                for one in found[:20]:
                    text(str(one), "li", dir="auto")

    def _source(self, content: bytes) -> str:
        return f"upload:{self.form.uploads.token_of(content) or ''}"

    # -- the address and the request ----------------------------------------------------------------------------------

    def _remember(self, row: Row) -> None:
        """The row stands in the address, so that it can be loaded again and sent to others."""
        self.asked = replace(self.asked, row=row)
        query = self.asked.query([one.name for one in self.fields])
        with self.place:
            said = json.dumps(f"?{query}" if query else "").replace("<", "\\u003c")
            ui.run_javascript(f"history.replaceState(null, '', location.pathname + {said})")
        self.code.show(self._codes(row))

    def _codes(self, row: Row) -> dict[str, str]:
        address = f"{self.origin}{self.studio.root_path}"
        sent = {name: _shortened(value) for name, value in row.items() if value is not None} or row
        options = {"min_confidence": self.asked.least, "accuracy": self.asked.accuracy, "seed": self.asked.seed or None}
        said = {name: value for name, value in options.items() if value is not None}
        make: dict[str, Callable[..., str]] = {"curl": curl_line, "Python": python_lines}
        return {
            name: one(address, self.name, sent, with_key=self.studio.with_key, options=said)
            for name, one in make.items()
        }


def _shortened(value: Any) -> Any:
    """A long text cut: the lines are there to be read."""
    cut = isinstance(value, str) and len(value) > _LONGEST_IN_CODE
    return f"{value[:_LONGEST_IN_CODE]}…" if cut else value
