"""Long work as it goes on: how far it is, how long it still takes, and the button that ends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from polydetr.web.markup import box, button, text
from polydetr.web.words import Words

_SURE = 0.02
"""From this share on the time that is left is told."""


class Progress:
    """A bar with a sentence and a button, to be told how far the work is. what: what is done, for screen readers."""

    def __init__(self, words: Words, *, what: str, on_cancel: Callable[[], Any] | None = None) -> None:
        self._words = words
        with box("div", "pd-progress") as self.element:
            self._bar = box("progress", "", max="1", aria_label=what)
            self._said = text("", "span", "pd-note pd-number")
            self._said._props["role"] = "status"
            if on_cancel is not None:
                button(words("progress.cancel"), on_cancel, icon="stop", data_cancel="1")

    def tell(self, done: str, *, share: float | None, elapsed_s: float) -> None:
        """done: what is done so far, as a sentence; share: of all, None where that is not known."""
        self._bar._props["value"] = share
        if share is None:
            self._bar._props.pop("value")
        left = time_left(share, elapsed_s)
        self._said.text = (
            done if left is None else f"{done} · {self._words('progress.left', time=in_time(self._words, left))}"
        )
        self._bar.update()

    def end(self) -> None:
        """It is over: nothing of it stays."""
        self.element.delete()


def time_left(share: float | None, elapsed_s: float) -> float | None:
    """Seconds that the rest takes at the pace so far; None where too little is done to tell."""
    if share is None or not _SURE <= share <= 1.0 or elapsed_s <= 0:
        return None
    return elapsed_s * (1.0 - share) / share


def in_time(words: Words, seconds: float) -> str:
    """A time for people, as exact as it is known: "5 s", "3 min", "2 h"."""
    if seconds < 90:
        whole = max(1, round(seconds)) if seconds < 10 else 5 * round(seconds / 5)
        return words("progress.seconds", count=whole)
    if seconds < 90 * 60:
        return words("progress.minutes", count=round(seconds / 60))
    return words("progress.hours", count=round(seconds / 3600))
