"""What a page tells: a notice, an error in the words of its exception, a question before what cannot be undone."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

from nicegui import Client, ui

from polydetr.errors import PolydetrError
from polydetr.web.markup import Native, box, button, icon_svg, text, trusted
from polydetr.web.viewer import NotAllowed, Viewer
from polydetr.web.words import Words

_LOGGER = logging.getLogger("polydetr.web")


def notice(words: str, *, kind: str = "info") -> None:
    """A sentence that leaves by itself. kind: info, good or bad."""
    ui.run_javascript(f"polydetr.notice({as_script(words)}, {as_script(kind)})")


def failure(words: Words, error: PolydetrError, *, retry: Callable[[], Any] | None = None) -> Native:
    """The state of a view that could not be made: what, why, what to do."""
    with box("div", "pd-state bad", role="alert") as state:
        trusted(icon_svg("warning"), "span", "pd-icon", aria_hidden="true")
        with box("div"):
            text(error.message, "p", "pd-strong", dir="auto")
            if error.location is not None and str(error.location):
                text(str(error.location), "p", "pd-note", dir="auto")
            if error.hint:
                text(error.hint, "p", dir="auto")
            if retry is not None:
                button(words("state.retry"), retry)
    return state


def empty(what: str, *, how: str = "", begin: str = "", on_begin: Callable[[], Any] | None = None) -> Native:
    """The state of a view that has nothing to show yet: what it is for, and the one button that begins."""
    with box("div", "pd-state empty") as state:
        text(what, "p", "pd-strong")
        if how:
            text(how)
        if begin:
            button(begin, on_begin, kind="primary")
    return state


def loading(words: Words, *, lines: int = 3) -> Native:
    """The state of a view that is being made; its words are seen after a second."""
    with box("div", "pd-state loading", role="status") as state:
        for _ in range(lines):
            box("span", "pd-skeleton", aria_hidden="true")
        text(words("state.loading"), "p", "pd-late")
    return state


async def confirmed(words: Words, question: str, *, action: str) -> bool:
    """Whether what cannot be undone is meant: the question names it, the button says it."""
    with ui.dialog() as dialog, box("div", "pd-card", role="alertdialog", aria_label=question):
        text(question, "p", "pd-strong", dir="auto")
        with box("div", "pd-row end"):
            button(words("frame.cancel"), lambda: dialog.submit(False))
            button(action, lambda: dialog.submit(True), kind="danger")
    try:
        return bool(await dialog)
    finally:
        dialog.delete()


def show_faults(client: Client, viewer: Viewer) -> None:
    """Whatever fails in a page's handlers is said on the page: in its own words, where it is an error of ours."""

    def show(error: Exception) -> None:
        with client:
            if isinstance(error, NotAllowed) and error.ended:
                ui.run_javascript(f"polydetr.signIn({as_script(viewer.base)})")
            if isinstance(error, PolydetrError):
                notice(f"{error.message} {error.hint or ''}".strip(), kind="bad")
            else:
                _LOGGER.error("a page failed", exc_info=error)
                notice(viewer.words("state.fault"), kind="bad")

    client.on_exception(show)


def as_script(value: str) -> str:
    """A string as JavaScript has it, safe also within HTML."""
    return json.dumps(value).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
