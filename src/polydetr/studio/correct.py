"""The page Correct: a person confirms or repairs what a model answered, and training rows come of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from nicegui import ui
from starlette.requests import Request

from polydetr.errors import InputError, PolydetrError
from polydetr.serving.rows import Columns, Item
from polydetr.studio.correct_address import Place, page_of
from polydetr.studio.correct_forms import correctable
from polydetr.studio.correct_list import show_list
from polydetr.studio.correct_lookups import corrected_targets
from polydetr.studio.correct_page import CorrectPage
from polydetr.studio.correct_queue import Queue
from polydetr.studio.correct_sources import corrected_rows, first_rows
from polydetr.studio.correct_start import show_start
from polydetr.studio.correct_tools import KEYS
from polydetr.studio.correction_values import TargetForm
from polydetr.studio.corrections import Corrections
from polydetr.studio.folder_rows import rows_of_folder
from polydetr.studio.handed_rows import Handed
from polydetr.studio.pages import Studio, View
from polydetr.web.markup import box, link, text
from polydetr.web.notices import empty, failure


def add_correct(studio: Studio) -> None:
    """The address."""

    @ui.page("/{model}/correct")
    async def correct(request: Request, model: str) -> None:
        view = await studio.begin(request, "correct", model=model, keys=KEYS)
        if view is None:
            return
        with view.main:
            try:
                await _fill(view, Place.of(request.query_params))
            except PolydetrError as error:
                failure(view.viewer.words, error, retry=lambda: ui.navigate.reload())


async def _fill(view: View, place: Place) -> None:
    """Raises what the store raises."""
    words, info, database = view.viewer.words, view.info, view.studio.database
    forms, messages = correctable(info, [one["name"] for one in info.description["schema"]["targets"]])
    if not forms:
        empty(words("correct.cannot"), how=" ".join(messages))
        return
    corrected = await asyncio.to_thread(Corrections(database).count, info.name)
    _tabs(view, place)
    if place.view == "list":
        await show_list(view, place, forms)
        return
    if place.begins:
        kept = len(await asyncio.to_thread(rows_of_folder, info))
        show_start(view, kept=kept, corrected=corrected)
        return
    if place.target in forms:
        forms = {place.target: forms[place.target]}
    queue, messages = await _queue(view, place, forms)
    if not queue.cases:
        empty(words("correct.no_rows"), how=" ".join(error.message for error in queue.rejected[:3]))
        return
    await asyncio.to_thread(_mark_done, view, queue, forms)
    _targets(view, place)
    _left_out(view, queue, messages)
    CorrectPage(view, place, queue, forms).build()


async def _queue(view: View, place: Place, forms: dict[str, TargetForm]) -> tuple[Queue, Sequence[str]]:
    """Raises InputError: the rows are not here any more."""
    info, words = view.info, view.viewer.words
    columns = Columns.of(info)
    items: Sequence[Item] = []
    messages: Sequence[str] = ()
    handed: Handed | None = None
    if place.rows == "kept":
        items, messages = first_rows(await asyncio.to_thread(rows_of_folder, info))
    elif place.rows == "corrected":
        corrections = Corrections(view.studio.database)
        items, messages = await asyncio.to_thread(corrected_rows, corrections, info.name, place.at)
    elif place.rows:
        rows = view.studio.sets.get(place.rows, info.name)
        if rows is None:
            raise InputError(words("correct.gone"), hint=words("correct.gone.how"))
        items, messages = list(rows.items), rows.messages
    else:
        handed = view.studio.handover.get(place.row, info.name)
        if handed is None:
            raise InputError(words("correct.gone"), hint=words("correct.gone.how"))
        items = [handed.row]
    queue = await asyncio.to_thread(Queue.of, items, columns, list(forms), by_doubt=place.rows != "corrected")
    if handed is not None and handed.version == info.version:
        for case in queue.cases:
            case.reply, case.info = handed.reply, info
    return queue, messages


def _mark_done(view: View, queue: Queue, forms: dict[str, TargetForm]) -> None:
    known = corrected_targets(view.studio.database, view.info.name)
    for case in queue.cases:
        case.done = set(forms) <= known.get(case.key, set())


def _tabs(view: View, place: Place) -> None:
    words = view.viewer.words
    base = f"{view.studio.base}{page_of(view.info.name)}"
    with box("nav", "pd-row pd-tabs", aria_label=words("correct.tabs")):
        for name, target, here in (
            (words("correct.rows"), base, place.view != "list"),
            (words("correct.list"), f"{base}?view=list", place.view == "list"),
        ):
            link(name, target, classes="pd-button quiet", **({"aria-current": "page"} if here else {}))


def _targets(view: View, place: Place) -> None:
    """Of several targets, one alone may be corrected."""
    words, info = view.viewer.words, view.info
    every, _ = correctable(info, [one["name"] for one in info.description["schema"]["targets"]])
    if len(every) < 2:
        return
    base = f"{view.studio.base}{page_of(info.name)}"
    with box("nav", "pd-row", aria_label=words("correct.by.target")):
        text(words("correct.by.target"), "span", "pd-note")
        for name, said in {"": words("correct.all_targets"), **{one: one for one in every}}.items():
            here = {"aria-current": "true"} if place.target == name else {}
            link(said, f"{base}{place.query(target=name)}", classes="pd-button quiet small", dir="auto", **here)


def _left_out(view: View, queue: Queue, messages: Sequence[str]) -> None:
    """Rows that cannot be corrected, each with its reason."""
    words = view.viewer.words
    for message in messages:
        text(message, "p", "pd-note", dir="auto")
    if queue.repeated:
        text(words.counted("correct.repeated", queue.repeated), "p", "pd-note")
    if not queue.rejected:
        return
    with box("details", "pd-more"):
        text(words.counted("correct.rejected", len(queue.rejected)), "summary")
        with box("ul"):
            for error in queue.rejected[:100]:
                text(f"{error.location}: {error.message}" if error.location else error.message, "li", dir="auto")


__all__ = ["add_correct"]
