"""The page correct."""

from __future__ import annotations

from nicegui import ui
from starlette.requests import Request

from polydetr.studio.pages import Studio


def add_correct(studio: Studio) -> None:
    """The address."""

    @ui.page("/{model}/correct")
    async def correct(request: Request, model: str) -> None:
        await studio.begin(request, "correct", model=model)
