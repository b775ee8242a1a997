"""The gallery of components, where a developer asks for it: POLYDETR_GALLERY=1."""

from __future__ import annotations

from nicegui import ui
from starlette.requests import Request

from polydetr.studio.pages import Studio
from polydetr.web.gallery import gallery

ASKED = "POLYDETR_GALLERY"
"""The variable of the environment."""


def add_gallery(studio: Studio) -> None:
    """The address."""

    @ui.page("/gallery")
    async def show(request: Request) -> None:
        view = await studio.begin(request, "gallery")
        if view is not None:
            with view.main:
                gallery(view.viewer.words)
