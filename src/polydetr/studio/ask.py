"""The page where one row is asked."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import Any

from nicegui import context, ui
from starlette.requests import Request

from polydetr.serving.contract import ModelInfo
from polydetr.serving.rows import Columns
from polydetr.studio.address import Asked
from polydetr.studio.ask_page import AskPage
from polydetr.studio.examples import examples_of
from polydetr.studio.pages import Studio
from polydetr.studio.row_fields import fields_of, learned_columns
from polydetr.web.components.row_values import Field

KEYS = (("Ctrl Enter", "ask.key.ask"), ("e", "ask.key.example"), ("w", "ask.key.why"), ("c", "ask.key.correct"))


def add_ask(studio: Studio) -> None:
    """The address."""

    @ui.page("/{model}/ask")
    async def ask(request: Request, model: str) -> None:
        view = await studio.begin(request, "ask", model=model, keys=KEYS)
        if view is None:
            return
        info = view.info
        fields, examples = await asyncio.to_thread(_described, _Version(info))
        asked = Asked.of(request.query_params, list(Columns.of(info).inputs))
        host = request.headers.get("host", "")
        page = AskPage(view, fields, examples, asked, origin=f"{request.url.scheme}://{host}")
        with view.main:
            page.build()
        client = context.client
        client.on_connect(page.begin)
        client.on_delete(page.end)


class _Version:
    """A model, told from others by its folder and its content."""

    def __init__(self, info: ModelInfo) -> None:
        self.info, self._key = info, (info.name, info.folder, info.version)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Version) and self._key == other._key


@lru_cache(maxsize=8)
def _described(version: _Version) -> tuple[list[Field], list[dict[str, Any]]]:
    """What a model's folder says of its columns, and rows to try it with: read once per version."""
    return fields_of(version.info, learned_columns(version.info.folder)), examples_of(version.info)
