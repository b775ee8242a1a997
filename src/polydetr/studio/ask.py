"""The page where one row is asked."""

from __future__ import annotations

from nicegui import ui
from starlette.requests import Request

from polydetr.studio.pages import Studio
from polydetr.web.markup import panel, text


def add_ask(studio: Studio) -> None:
    """The address."""

    @ui.page("/{model}/ask")
    async def ask(request: Request, model: str) -> None:
        view = await studio.begin(request, "ask", model=model)
        if view is None:
            return
        with view.main, panel(view.words("section.ask")):
            text(str(view.info.example))
