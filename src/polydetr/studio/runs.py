"""The page runs."""

from __future__ import annotations

from nicegui import ui
from starlette.requests import Request

from polydetr.studio.pages import Studio


def add_runs(studio: Studio) -> None:
    """The address."""

    @ui.page("/runs")
    async def runs(request: Request) -> None:
        await studio.begin(request, "runs")
