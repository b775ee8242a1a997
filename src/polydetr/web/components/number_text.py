"""A number as pages write it; ``polydetr.figures`` of the frame's script does the same in the browser."""

from __future__ import annotations

import math

_MOST = 15
"""Digits of a number that are its own."""


def number_text(value: float, figures: int = 4, *, grouped: bool = True) -> str:
    """With so many significant digits, and never fewer than stand before the point: 0.1235, 45,213. grouped: by
    thousands.
    """
    if not math.isfinite(value):
        return str(value)
    before = len(str(int(abs(value))))
    return f"{value:{',' if grouped else ''}.{max(figures, before) if before <= _MOST else figures}g}"
