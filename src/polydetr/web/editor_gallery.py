"""The gallery's part with editors: below each, what the service was told of its changes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from polydetr.reports.style import label_colors
from polydetr.web.components.box_editor import BoxEditor, ShownImage
from polydetr.web.components.label_picker import LabelPicker
from polydetr.web.components.spans import Overlap, SpanEditor
from polydetr.web.markup import Native, box, text
from polydetr.web.words import Words

States = Mapping[str, Callable[[], Any]]
LABELS = ("LOC", "ORG", "PER", "<script>document.title = 'taken'</script>")
MIXED = (
    "Ada \U0001f600 Lovelace, e\u0301clair, \u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd, a\u200b\u200db "
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 end <b>"
)
"""An emoji, a combining mark, Hebrew, what has no width, a family of one shape, and what looks like HTML."""


def many_labels(count: int = 5_000) -> list[str]:
    return [f"label {i:04d}" for i in range(count)]


def _colors(names: Sequence[str]) -> list[str]:
    colors = label_colors(names)
    return [colors[name] for name in names]


def _told() -> tuple[Callable[[Any], None], Callable[[], Native]]:
    """What takes a change, and what shows the last one."""
    shown: list[Native] = []

    def tell(value: Any) -> None:
        shown[0].set_text(json.dumps(value))

    def place() -> Native:
        shown.append(text("", "pre", "pd-code", data_told="1"))
        return shown[0]

    return tell, place


def _spans(
    words: Words, said: str, spans: Sequence[tuple[int, int, int]], overlap: Overlap, *, readonly: bool = False
) -> None:
    tell, place = _told()
    with box("div", "pd-editor"):
        if not readonly:
            LabelPicker(LABELS, _colors(LABELS), words, title="labels", acts=True, keyed=False)
        SpanEditor(said, [{"start": s, "end": e, "label": n} for s, e, n in spans], LABELS, _colors(LABELS), words,
                   title="text", overlap=overlap, readonly=readonly, on_change=tell)  # fmt: skip
        place()


def _span_states(words: Words) -> States:
    long = "word " * 20_000
    return {
        "nested": lambda: _spans(words, "The University of Oslo lies in Oslo.", [(4, 22, 1), (18, 22, 0)], "allowed"),
        "apart": lambda: _spans(words, "Ada met Grace in Paris.", [(0, 3, 2), (8, 13, 2)], "apart"),
        "words": lambda: _spans(words, "dogs bark", [(0, 4, 0), (5, 9, 1)], "words"),
        "mixed": lambda: _spans(words, MIXED, [], "allowed"),
        "long": lambda: _spans(words, long, [(i, i + 4, i % 3) for i in range(0, 100_000, 500)], "allowed"),
        "read only": lambda: _spans(words, MIXED, [(0, 3, 3)], "allowed", readonly=True),
        "empty": lambda: _spans(words, "", [], "allowed"),
    }


def _boxes(words: Words, boxes: Sequence[Mapping[str, Any]], *, readonly: bool = False) -> None:
    tell, place = _told()
    with box("div", "pd-editor"):
        if not readonly:
            LabelPicker(LABELS, _colors(LABELS), words, title="labels", acts=True, keyed=False)
        BoxEditor(ShownImage(_image(200, 160), 200, 160), boxes, LABELS, _colors(LABELS), words, title="image",
                  readonly=readonly, on_change=tell)  # fmt: skip
        place()


def _box_states(words: Words) -> States:
    two = [{"box": [20.25, 30.5, 120.125, 110.0], "label": 0}, {"box": [90, 2, 180, 150], "label": 3}]
    return {
        "full": lambda: _boxes(words, two),
        "empty": lambda: _boxes(words, []),
        "read only": lambda: _boxes(words, two, readonly=True),
    }


def _picker(words: Words, labels: Sequence[str], *, adds: bool = False, **more: Any) -> None:
    tell, place = _told()
    LabelPicker(
        labels, _colors(labels), words, title="labels", keyed=False, adds=adds, on_pick=tell, on_new=tell, **more
    )
    place()


def _picker_states(words: Words) -> States:
    return {
        "one": lambda: _picker(words, LABELS, chosen=[1]),
        "several": lambda: _picker(words, LABELS, chosen=[0, 2], several=True),
        "5,000": lambda: _picker(words, many_labels(), chosen=[4321], adds=True),
        "disabled": lambda: _picker(words, LABELS, chosen=[1], disabled=True),
        "empty": lambda: _picker(words, [], adds=True),
    }


def _image(width: int, height: int) -> str:
    """A drawing of this size as a data: address."""
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"><rect width="{width}" '
        f'height="{height}" fill="#8899aa"/><circle cx="{width // 2}" cy="{height // 2}" r="40" fill="#ffeecc"/></svg>'
    )
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


EDITORS: dict[str, Callable[[Words], States]] = {
    "Labels to choose from": _picker_states,
    "Spans of a text": _span_states,
    "Boxes to draw": _box_states,
}
