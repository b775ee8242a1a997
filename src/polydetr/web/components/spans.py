"""A text whose spans are made, relabeled, moved and removed by hand, with the mouse, by touch or by keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from polydetr.web.components.editor import Editor
from polydetr.web.words import Words

Overlap = Literal["allowed", "apart", "words", "one"]
_NAMES = ("how", "first", "remove", "start_back", "start_on", "end_back", "end_on")


class SpanEditor(Editor, component="spans.js"):
    """Spans are {"start", "end", "label"}: characters as Python counts them, the number of a label.

    It stands in an element of the class ``pd-editor`` with a ``LabelPicker(acts=True)``, which gives selected text a
    label. Keys in the text: arrows, with Shift they select, with Ctrl by words; [ and ] choose a span, Alt + arrows
    move its end, with Shift its start; Delete removes it.
    """

    def __init__(
        self, text: str, spans: Sequence[Mapping[str, Any]], labels: Sequence[str], colors: Sequence[str], words: Words,
        *, title: str, overlap: Overlap = "allowed", readonly: bool = False,
        on_change: Callable[[list[dict[str, int]]], Any] | None = None, js: str = "",
    ) -> None:  # fmt: skip
        """overlap: "apart": a new span takes the place of those that it touches; "words": every word has a label, and
        none is made or removed; "one": there is at most one.
        """
        super().__init__(
            spans, labels, colors, check=lambda value, count: _checked(value, len(text), count), on_change=on_change,
            js=js, text=text, overlap=overlap, readonly=readonly, title=title,
            words={name: words(f"spanedit.{name}") for name in _NAMES},
        )  # fmt: skip


def _checked(value: Any, length: int, labels: int) -> list[dict[str, int]]:
    """Raises ValueError: a browser sent what no editor makes."""
    found: list[dict[str, int]] = []
    for one in value if isinstance(value, list) else [None]:
        start, end, label = (one.get(n) if isinstance(one, dict) else None for n in ("start", "end", "label"))
        if type(start) is not int or type(end) is not int or type(label) is not int:
            raise ValueError("no list of spans")
        if not (0 <= start < end <= length and 0 <= label < labels):
            raise ValueError(f"the span {start}-{end} with label {label} does not lie in {length} characters")
        found.append({"start": start, "end": end, "label": label})
    return found
