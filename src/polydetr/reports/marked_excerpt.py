"""Text with labeled spans as HTML: spans may lie inside one another, or across."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

from polydetr.core.mistakes import Mark
from polydetr.errors import escaped
from polydetr.reports.style import BLUE, GOOD

_AROUND = 180
"""Characters shown on either side of what is in focus."""
_LONGEST = 1500
_SIDES = {"gold": GOOD, "answer": BLUE}
"""The colors of marks without a label."""


def excerpt(text: str, marks: Sequence[Mark], *, around: int = _AROUND) -> tuple[int, int]:
    """The characters to show: those around the marks in focus, or the beginning; whole words where that is possible."""
    about = [mark for mark in marks if mark.focus]
    if not about:
        start, end = 0, min(len(text), 4 * around)
    else:
        start = max(0, min(mark.start for mark in about) - around)
        end = min(len(text), max(mark.end for mark in about) + around, start + _LONGEST)
    before, behind = text.find(" ", start, start + 20), text.rfind(" ", end - 20, end)
    start = start if start == 0 or before < 0 else before + 1
    return start, end if end == len(text) or behind <= start else behind


def excerpts(text: str, marks: Sequence[Mark]) -> dict[str, tuple[int, int]]:
    """Side → what to show of the text for it: the same for both, but where their marks are far apart."""
    start, end = excerpt(text, marks)
    sides = {side: [m for m in marks if m.side == side] for side in ("gold", "answer")}
    if all(m.end <= end for m in marks if m.focus):
        return dict.fromkeys(sides, (start, end))
    return {side: excerpt(text, own if any(m.focus for m in own) else marks) for side, own in sides.items()}


def marked_html(text: str, marks: Sequence[Mark], colors: Mapping[str, str], *, start: int, end: int) -> str:
    """``text[start:end]`` with its marks, escaped; the label of each stands behind it, where it has one.

    colors: label → "r, g, b". What is cut off is shown as "…".
    """
    inside = sorted((m for m in marks if m.start < end and m.end > start), key=lambda m: (m.start, -m.end))
    cuts = sorted({start, end, *(min(max(place, start), end) for m in inside for place in (m.start, m.end))})
    parts = ["…"] if start else []
    for first, last in pairwise(cuts):
        over = [m for m in inside if m.start <= first and m.end >= last]
        opened = "".join(_opened(mark, colors) for mark in over)
        parts.append(f"{opened}{escape(escaped(text[first:last]))}{'</mark>' * len(over)}")
        ended = [m for m in reversed(inside) if m.end == last and m.label]
        parts += [f'<span class="tag">{escape(escaped(m.label))}</span>' for m in ended]
    return "".join(parts) + ("…" if end < len(text) else "")


def _opened(mark: Mark, colors: Mapping[str, str]) -> str:
    focus = " class=focus" if mark.focus else ""
    return f'<mark{focus} style="--m:{colors.get(mark.label) or rgb(_SIDES[mark.side])}">'


def rgb(color: str) -> str:
    """ "#2f6db3" as "47, 109, 179"."""
    return ", ".join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5))
