"""Where to begin: rows that are written or dropped here, the example, kept validation rows, earlier corrections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from nicegui import ui

from polydetr.errors import PolydetrError
from polydetr.serving.limits import MEGABYTE
from polydetr.serving.rows import Columns, item_of
from polydetr.studio.correct_address import page_of
from polydetr.studio.correct_sources import (
    LONGEST,
    image_column,
    merged,
    rows_of_file,
    rows_of_lines,
    suffixes,
    text_column,
)  # fmt: skip
from polydetr.studio.handed_rows import RowSet
from polydetr.studio.pages import View
from polydetr.web.components.file_drop import FileDrop
from polydetr.web.markup import box, button, link, panel, text
from polydetr.web.notices import notice

_LARGEST = 64 * MEGABYTE


def show_start(view: View, *, kept: int, corrected: int) -> None:
    """kept: how many texts of validation rows the folder has; corrected: how many corrections there are."""
    words, info = view.viewer.words, view.info
    base = f"{view.studio.base}{page_of(info.name)}"
    columns = Columns.of(info)

    def go(rows: RowSet) -> None:
        ui.navigate.to(f"{page_of(info.name)}?rows={view.studio.sets.put(rows)}")

    text(words("correct.what"), "p")
    with box("div", "pd-columns"):
        with panel(words("correct.from.here"), classes="pd-from"):
            if text_column(columns):
                _lines(view, go)
            _files(view, columns, go)
            example = item_of(dict(info.example), columns) if info.example else None
            if isinstance(example, dict):
                button(words("correct.from.example"),
                       lambda: go(RowSet(info.name, [example], words("correct.example"), view.viewer.person.name)),
                       key="e")  # fmt: skip
        with panel(words("correct.from.kept"), classes="pd-from"):
            if kept:
                link(
                    words("correct.from.validation", count=f"{kept:,}"), f"{base}?rows=kept", classes="pd-button plain"
                )
            if corrected:
                link(words("correct.from.corrected", count=f"{corrected:,}"), f"{base}?rows=corrected",
                     classes="pd-button plain")  # fmt: skip
                link(words("correct.list"), f"{base}?view=list", classes="pd-button plain")
            if not kept and not corrected:
                text(words("correct.from.none"), "p", "pd-note")


def _lines(view: View, go: Callable[[RowSet], None]) -> None:
    words = view.viewer.words
    entry = ui.textarea(words("correct.lines")).props(f"outlined autogrow maxlength={LONGEST}")
    entry.props('input-style="max-height: 240px"').classes("pd-wide-entry")

    def begin() -> None:
        go(rows_of_lines(view.info, entry.value or "", view.viewer.person.name))

    entry.on("keydown.ctrl.enter", begin, [])
    button(words("correct.begin"), begin, kind="primary")


def _files(view: View, columns: Columns, go: Callable[[RowSet], None]) -> None:
    words, known = view.viewer.words, suffixes(columns)

    async def dropped(event: Any) -> None:
        sets: list[RowSet] = []
        failures: list[str] = []
        for file in event.files:
            content = await file.read()
            try:
                sets.append(
                    await asyncio.to_thread(rows_of_file, view.info, file.name, content, view.viewer.person.name)
                )
            except PolydetrError as error:
                named = "" if file.name in error.message else f"{file.name}: "
                failures.append(f"{named}{error.message} {error.hint or ''}".strip())
        if sets:
            go(merged(sets, failures))
            return
        for failed in failures:
            notice(failed, kind="bad")
        upload.reset()

    kind = "images" if image_column(columns) else "file"
    upload = FileDrop(
        words(f"correct.drop.{kind}"), suffixes=known, most=_LARGEST, on_files=dropped,
        on_rejected=lambda: notice(_rejected(words, known), kind="bad"),
    )  # fmt: skip


def _rejected(words: Any, known: tuple[str, ...]) -> str:
    return words("correct.drop.rejected", kinds=", ".join(known), megabytes=_LARGEST // MEGABYTE)
