"""The page batch."""

from __future__ import annotations

from nicegui import ui
from starlette.requests import Request

from polydetr.studio.pages import Studio


def add_batch(studio: Studio) -> None:
    """The address."""

    @ui.page("/{model}/batch")
    async def batch(request: Request, model: str) -> None:
        await studio.begin(request, "batch", model=model)
