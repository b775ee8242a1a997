"""The button "Why?" beside an answer: the explanation is computed when it is asked for, as it takes longer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nicegui import ui

from polydetr.errors import PolydetrError
from polydetr.serving.asking import model_named, replies_to
from polydetr.serving.contract import Ask, Row
from polydetr.serving.rows import Columns, items_of
from polydetr.studio.answer_parts import Part
from polydetr.studio.answer_view import labels_to_explain
from polydetr.studio.why_view import images_of, show_why
from polydetr.web.markup import Native, box, button
from polydetr.web.notices import failure, loading

if TYPE_CHECKING:
    from polydetr.studio.ask_page import AskPage

_NOT_EXPLAINED = ("generation", "")


class Why:
    """Of one target's answer to one row. choice: of what a person asks why, None: of the answer itself."""

    def __init__(self, page: AskPage, row: Row, part: Part) -> None:
        self.page, self.row, self.part, self.words = page, row, part, page.words
        self.choice: str | None = None

    def build(self, *, first: bool) -> None:
        """first: the key w presses it."""
        if self.part.task in _NOT_EXPLAINED:
            return
        with box("div", "pd-why"):
            with box("div", "pd-row"):
                press = button(self.words("why.ask"), icon="why", key="w" if first else None)
                if len(choices := labels_to_explain(self.part)) > 1:
                    self._choices(choices)
            place = box("div", aria_live="polite")
        press.on("click", lambda: self.page.run(f"why {self.part.target}", self._explain(place)), [])

    def _choices(self, choices: Mapping[str, str]) -> None:
        def chosen(event: Any) -> None:
            self.choice = event.value or None

        options = {"": self.words("why.the_answer"), **choices}
        entry = ui.select(options, value="", label=self.words("why.of"), on_change=chosen)
        entry.props("outlined dense options-dense")

    async def _explain(self, place: Native) -> None:
        place.clear()
        with place:
            loading(self.words, lines=2)
        studio, name = self.page.studio, self.page.name
        ask = Ask(explain=True, target=self.part.target, choice=self.choice)
        try:
            items = items_of([self.row], Columns.of(model_named(studio.fleet, name)))
            [reply] = await replies_to(studio.fleet, name, items, ask, timeout_s=studio.limits.timeout_s)
            found = reply.get("explanation") or {"error": reply.get("error", {"message": ""})}
            images = await asyncio.to_thread(images_of, items[0], found)
        except PolydetrError as error:
            place.clear()
            with place:
                failure(self.words, error)
            return
        place.clear()
        with place:
            show_why(self.words, found, images)
