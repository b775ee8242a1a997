"""The page model."""

from __future__ import annotations

from nicegui import ui
from starlette.requests import Request

from polydetr.studio.pages import Studio


def add_model(studio: Studio) -> None:
    """The address."""

    @ui.page("/{model}/model")
    async def model(request: Request, model: str) -> None:
        await studio.begin(request, "model", model=model)
