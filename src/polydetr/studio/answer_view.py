"""The answer to one row as a page shows it: the answer first, its confidence, the alternatives."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from polydetr.reports.marked_text import plain_html
from polydetr.studio.answer_parts import (
    BoxesPart,
    ClassPart,
    ImagePart,
    NumberPart,
    Part,
    PassagePart,
    PlainPart,
    SpansPart,
    VectorPart,
    sure_of,
)
from polydetr.tasks.regression import LEVEL
from polydetr.web.components.bars import bars
from polydetr.web.components.boxes import Boxes
from polydetr.web.components.confidence import confidence
from polydetr.web.components.images import Shown, image_grid
from polydetr.web.components.marked import marked_text
from polydetr.web.components.quantity import quantity
from polydetr.web.components.vector import vector
from polydetr.web.markup import box, text, trusted
from polydetr.web.words import Words

_LONGEST_CODE = 20_000


def show_part(
    words: Words, part: Part, *, source: Callable[[bytes], str], drawn: Sequence[tuple[int, Part]] = ()
) -> None:
    """Builds one target's answer. source: the address of an image that the browser has; drawn: the same target by
    other seeds, where it is drawn at random.
    """
    with box("div", "pd-row pd-answer-head"):
        text(part.target, "h3", dir="auto")
        if (probability := sure_of(part)) is not None:
            confidence(words, probability, least=part.least, abstained=part.abstained)
    if part.outside:
        text(words("ask.outside"), "p", "pd-note")
    match part:
        case ClassPart():
            _classes(words, part)
        case NumberPart():
            quantity(words, part.value, part.interval, level=LEVEL)
        case PassagePart():
            _passage(words, part)
        case SpansPart():
            _spans(words, part)
        case BoxesPart():
            _boxes(words, part, source)
        case ImagePart():
            _images(words, part, drawn)
        case VectorPart():
            vector(words, part.numbers)
        case PlainPart():
            said = json.dumps(part.value, ensure_ascii=False, indent=1, default=str)
            text(said[:_LONGEST_CODE], "pre", "pd-code", dir="auto")
        case _:
            text(words("ask.nothing"), "p")


def _classes(words: Words, part: ClassPart) -> None:
    colors = {one.name: one.color for one in part.bars}
    with box("p", f"pd-big pd-left{' pd-withheld' if part.abstained else ''}"):
        if not part.labels:
            text(words("ask.no_label"), "span")
        for label in part.labels:
            trusted(plain_html(label), "span", "pd-chip", dir="auto").style(
                f"--c:{colors.get(label) or 'var(--accent)'}"
            )
    if len(part.bars) > 1 or part.several:
        bars(words, part.bars, threshold=part.threshold)
    if part.others:
        text(words.counted("ask.others", part.others), "p", "pd-note")


def _spans(words: Words, part: SpansPart) -> None:
    marked_text(part.text, part.marks, part.colors)
    if not part.marks:
        text(words("ask.no_span"), "p", "pd-note")
        return
    if part.least is not None and (weak := sum(mark.weak for mark in part.marks)):
        text(words.counted("ask.weak", weak, least=f"{part.least:.2f}"), "p", "pd-note")
    with box("details", "pd-more"):
        text(words.counted("ask.spans", len(part.marks)), "summary")
        rows = "".join(
            f'<tr><td dir="auto">{plain_html(part.text[mark.start : mark.end][:200])}</td>'
            f'<td><span class="pd-chip" style="--c:{plain_html(part.colors.get(mark.label, ""))}" dir="auto">'
            f'{plain_html(mark.label)}</span></td><td class="pd-number">{mark.start}-{mark.end}</td>'
            f'<td class="pd-number">{"" if mark.score is None else f"{mark.score:.2f}"}</td></tr>'
            for mark in part.marks[:500]
        )
        names = [plain_html(words(f"ask.column.{name}")) for name in ("text", "label", "place", "sure")]
        head = "".join(
            f'<th scope="col"{" class=pd-number" if i > 1 else ""}>{name}</th>' for i, name in enumerate(names)
        )
        trusted(f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>", "table", "pd-table")


def _passage(words: Words, part: PassagePart) -> None:
    if part.answer is None:
        text(words("ask.no_answer"), "p", "pd-big pd-left")
    else:
        trusted(plain_html(part.answer), "p", f"pd-big pd-left{' pd-withheld' if part.abstained else ''}", dir="auto")
        text(words("ask.place", start=part.start, end=part.end, column=part.column), "p", "pd-note")
    if part.text:
        marked_text(part.text, part.marks, part.colors)


def _boxes(words: Words, part: BoxesPart, source: Callable[[bytes], str]) -> None:
    if part.image is None:
        text(words("ask.no_image"), "p")
        return
    Boxes(words, source(part.image), part.boxes, alt=part.column, start=0.0)


def _images(words: Words, part: ImagePart, drawn: Sequence[tuple[int, Part]]) -> None:
    found = [
        Shown(one.source, words("ask.seed", seed=seed), f"{part.target}-{seed}.png")
        for seed, one in (drawn or [(0, part)])
        if isinstance(one, ImagePart) and one.source
    ]
    if not found:
        text(words("ask.nothing"), "p")
        return
    image_grid(found, download=words("ask.download"))


def labels_to_explain(part: Part) -> dict[str, str]:
    """What else of this answer can be explained: the choice as ``Ask.choice`` takes it → what it is called."""
    match part:
        case ClassPart():
            return {one.name: one.name for one in part.bars}
        case SpansPart() if not isinstance(part, PassagePart):
            return {str(i): _short(f"{part.text[m.start : m.end]} [{m.label}]") for i, m in enumerate(part.marks[:50])}
        case BoxesPart():
            return {str(i): f"{i + 1}: {one.label} {one.score:.2f}" for i, one in enumerate(part.boxes[:50])}
        case _:
            return {}


def _short(said: Any) -> str:
    return said if len(said) <= 60 else f"{said[:59]}…"
