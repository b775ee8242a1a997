"""How much of a long text is shown around what is marked in it."""

from __future__ import annotations

from collections.abc import Sequence

from polydetr.core.mistakes import Mark

_AROUND = 180
"""Characters shown on either side of what is in focus."""
_LONGEST = 1500


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
