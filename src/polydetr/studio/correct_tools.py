"""What can be done with the row that is shown, each by a key; and how far the work has come."""

from __future__ import annotations

from typing import Any, Protocol

from polydetr.studio.correct_queue import Queue
from polydetr.web.markup import Native, box, button, enabled, text
from polydetr.web.words import Words

KEYS = (
    ("Enter", "correct.key.confirm"), ("1 … 9, a …", "correct.key.label"), ("n / p", "correct.key.move"),
    ("u", "correct.key.undo"), ("t", "correct.key.target"), ("← → [ ]", "correct.key.spans"),
    ("Del", "correct.key.remove"), ("Alt ← →", "correct.key.ends"),
)  # fmt: skip
"""Key → the name of its sentence."""


class Doing(Protocol):
    """What the buttons do."""

    def confirm(self) -> Any: ...
    def previous(self) -> Any: ...
    def next(self) -> Any: ...
    def undo(self) -> Any: ...
    def cycle(self) -> Any: ...


class Tools:
    """Made within the element that it stands in. several: there is more than one target."""

    def __init__(self, words: Words, doing: Doing, *, several: bool, readonly: bool) -> None:
        self.words = words
        with box("div", "pd-row pd-tools", role="group", aria_label=words("correct.tools")):
            self._go = button(
                words("correct.confirm"), doing.confirm, kind="primary", icon="check", key="Enter", data_holds="1"
            )
            self._back = button(words("correct.previous"), doing.previous, icon="back", key="p", data_holds="1")
            button(words("correct.next"), doing.next, icon="next", key="n", data_holds="1")
            undoes = button(words("correct.undo"), doing.undo, icon="undo", key="u", data_holds="1")
            if several:
                button(words("correct.target"), doing.cycle, key="t")
            self._progress = text("", "span", "pd-number pd-progress", role="status")
            self._said = text("", "span", "pd-note", role="status")
        if readonly:
            text(words("correct.readonly", role=words("people.role.editor")), "p", "pd-note")
            for element in (self._go, undoes):
                element.set_visibility(False)

    def say(self, words: str) -> None:
        """What became of the last row."""
        self._said.set_text(words)

    def tell_progress(self, queue: Queue) -> None:
        """How many rows are done."""
        done, count = f"{queue.done:,}", f"{len(queue.cases):,}"
        self._progress.set_text(self.words("correct.progress", done=done, count=count))
        enabled(self._back, queue.has_previous)

    def tell_change(self, *, changed: bool, any_row: bool) -> None:
        """The first button says whether it confirms or saves a change."""
        label = self._go.default_slot.children[1]
        assert isinstance(label, Native)
        label.set_text(self.words("correct.save" if changed else "correct.confirm"))
        enabled(self._go, any_row)
