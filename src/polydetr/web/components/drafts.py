"""What was typed on a page and is not saved yet, kept in the browser's tab: it outlives a reload."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from nicegui.element import Element
from nicegui.events import GenericEventArguments


class Drafts(Element, component="drafts.js"):
    """Key → value as JSON has it. In scripts of the page: ``polydetr.keep(key, value)``, null to forget it."""

    def __init__(self, name: str, on_kept: Callable[[Mapping[str, Any]], Any]) -> None:
        """name: what tells pages apart. on_kept: called once, with what was kept before."""
        super().__init__()
        self._props["name"] = name

        found: dict[str, Any] = {}
        done = False

        async def kept(event: GenericEventArguments) -> None:
            nonlocal done
            said = event.args if isinstance(event.args, dict) else {}
            if isinstance(key := said.get("key"), str):
                found[key] = said.get("value")
            if done or len(found) != said.get("count"):
                return
            done = True
            self.run_method("arrived")
            if (work := on_kept(found)) is not None:
                await work

        self.on("kept", kept)

    def put(self, key: str, value: Any) -> None:
        """Keeps it; None: forgets it."""
        self.run_method("put", key, value)

    @staticmethod
    def js(key: str) -> str:
        """What keeps ``value`` in a handler of the browser."""
        return f"window.polydetr.keep?.({json.dumps(key)}, value)".replace("<", "\\u003c")
