"""Labels to choose from, thousands of them too: buttons with keys, and a search field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from polydetr.web.words import Words

SHOWN = 20
"""Labels that have a button; more are searched."""


class LabelPicker(Element, component="label_picker.js"):
    """Labels are named by their number in ``labels``."""

    def __init__(
        self, labels: Sequence[str], colors: Sequence[str], words: Words, *, title: str, chosen: Sequence[int] = (),
        first: Sequence[int] | None = None, several: bool = False, acts: bool = False, keyed: bool = True,
        adds: bool = False, disabled: bool = False, on_pick: Callable[[int], Any] | None = None,
        on_new: Callable[[str], Any] | None = None,
    ) -> None:  # fmt: skip
        """first: those that have a button, at most ``SHOWN``; None: where they are few, all of them. several: they are
        toggles. acts: what is picked is done to what is selected in the editor around it (class ``pd-editor``), and
        stays no choice. keyed: keys press the buttons. adds: a label that is none of them may be typed, which calls
        ``on_new``.
        """
        super().__init__()
        few = range(len(labels)) if len(labels) <= SHOWN else ()
        self._props.update({
            "labels": list(labels), "colors": list(colors), "first": list(few if first is None else first)[:SHOWN],
            "chosen": list(chosen), "several": several, "acts": acts, "keyed": keyed, "adds": adds,
            "disabled": disabled, "title": title,
            "words": {"search": words("picker.search"), "new": words("picker.new")},
        })  # fmt: skip
        self._count = len(labels)

        def picked(event: GenericEventArguments) -> Any:
            index, name = event.args.get("index"), event.args.get("name")
            if type(index) is int and 0 <= index < self._count:
                return on_pick(index) if on_pick is not None else None
            return on_new(name) if on_new is not None and isinstance(name, str) and name.strip() else None

        self.on("pick", picked)

    def choose(self, chosen: Sequence[int]) -> None:
        """Shows these as chosen."""
        self._props["chosen"] = list(chosen)
        self.update()

    def name(self, labels: Sequence[str], colors: Sequence[str]) -> None:
        """Other labels, such as the same with one that is new behind them."""
        self._props["labels"], self._props["colors"], self._count = list(labels), list(colors), len(labels)
        self.update()

    def key(self, on: bool) -> None:
        """Whether keys press the buttons: of several pickers on a page, one at a time."""
        self._props["keyed"] = on
        self.update()
