"""A vector: its length, its first numbers, all of it to copy."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from polydetr.web.markup import box, text
from polydetr.web.words import Words

_FIRST = 8


def vector(words: Words, numbers: Sequence[float]) -> None:
    """The numbers are shown with three digits, and copied with all."""
    norm = math.sqrt(math.fsum(number * number for number in numbers))
    text(words("vector.size", count=f"{len(numbers):,}", norm=f"{norm:.3f}"), "p", "pd-note")
    rest = "" if len(numbers) <= _FIRST else " …"
    text("  ".join(f"{number:+.3f}" for number in numbers[:_FIRST]) + rest, "p", "pd-code")
    with box("div", "pd-row"):
        copied = json.dumps([round(float(number), 6) for number in numbers])
        text(
            words("copy"), "button", "pd-button", type="button", data_copy=copied, data_done=words("copied")
        )  # fmt: skip
