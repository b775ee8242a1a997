"""Parts of the rows of a labeled file that is dropped on the page: asked of the model as it is now."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from polydetr.errors import PolydetrError
from polydetr.studio.asked_rows import answered, read_file
from polydetr.studio.batch_files import suffixes
from polydetr.studio.beside import MOST_BYTES
from polydetr.studio.differences import outcomes_of_replies
from polydetr.studio.figures import targets_of
from polydetr.studio.sent_files import SentFiles, without_place
from polydetr.studio.slices import Outcome, slices, ways
from polydetr.studio.slices_part import MOST_WAYS, slices_table
from polydetr.web.components.drop import Drop
from polydetr.web.live import begin
from polydetr.web.markup import box, button, text
from polydetr.web.notices import failure, loading

if TYPE_CHECKING:
    from polydetr.studio.pages import View


class SlicesFile:
    """The place to drop it, and what came of it."""

    def __init__(self, view: View, target: str, sent: SentFiles) -> None:
        self._view, self._target, self._sent, self._words = view, target, sent, view.viewer.words

    def build(self) -> None:
        base = f"{self._view.studio.base}/{quote(self._view.info.name, safe='')}/model"
        Drop(
            self._words, address=f"{base}/upload/rows", suffixes=suffixes(), most=MOST_BYTES,
            kinds=self._words("slices.drop"), on_sent=self._dropped,
        )  # fmt: skip
        self._place = box("div", aria_live="polite")

    def _dropped(self, answer: Mapping[str, Any]) -> None:
        self._place.clear()
        with self._place:
            loading(self._words)
        begin(lambda: self._asked(answer.get("id")))

    async def _asked(self, id: Any) -> None:
        view, info = self._view, self._view.info
        path: Path | None = None
        try:
            path = await asyncio.to_thread(self._sent.path, id)
            targets = targets_of(info.description)
            try:
                rows, _ = await asyncio.to_thread(read_file, path, list(targets), list(info.columns))
            finally:
                await asyncio.to_thread(self._sent.forget, path)
            limit = view.studio.limits.timeout_s
            replies = await answered(view.studio.fleet, info.name, rows, timeout_s=limit)
        except PolydetrError as error:
            self._place.clear()
            with self._place:
                failure(self._words, without_place(error, path) if path else error)
            return
        inputs = [{column: row.get(column) for column in info.columns} for row in rows]
        golds = [row.get(self._target) for row in rows]
        self._show(outcomes_of_replies(inputs, replies, golds, self._target, targets[self._target]), None)

    def _show(self, outcomes: Sequence[Outcome], chosen: tuple[str, str] | None) -> None:
        words, offered = self._words, ways(outcomes)[:MOST_WAYS]
        self._place.clear()
        with self._place:
            if not offered:
                text(words("slices.no_labels" if not outcomes else "slices.one"), "p", "pd-note")
                return
            chosen = chosen or offered[0]
            with box("div", "pd-row pd-choices", role="group", aria_label=words("slices.by")):
                for one in offered:
                    button(
                        words(f"slices.{one[0]}", column=one[1]), lambda one=one: self._show(outcomes, one),
                        aria_pressed="true" if one == chosen else "false",
                    )  # fmt: skip
            slices_table(self._view, outcomes, slices(outcomes, *chosen))
