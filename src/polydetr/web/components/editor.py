"""What the editors of spans and of boxes share: what is drawn stands in the browser until something else is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nicegui.element import Element
from nicegui.events import GenericEventArguments


class Editor(Element):
    """Items (spans, boxes) that are changed by hand; each change is told to the service as all of them.

    The browser is ahead of the service: by the time that a change has been told, the next keys may have been pressed.
    So the service never sends a change back; the browser takes ``items`` when ``given`` has counted on, and else keeps
    its own.
    """

    def __init__(
        self, items: Sequence[Mapping[str, Any]], labels: Sequence[str], colors: Sequence[str],
        *, check: Callable[[Any, int], list[Any]], on_change: Callable[[list[Any]], Any] | None, js: str,
        **props: Any,
    ) -> None:  # fmt: skip
        """check: makes items of what a browser sent and of the count of labels, or raises ValueError. js: run in the
        browser with each ``value`` that is told. props: further ones of the component."""
        super().__init__()
        self._props.update({
            "items": list(items), "given": 0, "labels": list(labels), "colors": list(colors), **props,
        })  # fmt: skip

        def changed(event: GenericEventArguments) -> None:
            found = check(event.args, len(self._props["labels"]))
            with self._props.suspend_updates():  # for a page that connects anew, and not for this one
                self._props["items"] = found
            if on_change is not None:
                on_change(found)

        self.on("change", changed, js_handler=f"(value) => {{ {js}; emit(value); }}")

    def show(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Other items of the same text or image."""
        self._props.update({"items": list(items), "given": self._props["given"] + 1})

    def name(self, labels: Sequence[str], colors: Sequence[str]) -> None:
        """Other labels, such as the same with one that is new behind them."""
        self._props.update({"labels": list(labels), "colors": list(colors)})
