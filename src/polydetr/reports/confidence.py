"""A probability in words: the same ones on every page."""

from __future__ import annotations

from typing import Literal

SURE, FAIRLY = 0.9, 0.7
"""From which probability on an answer is called so."""
Sureness = Literal["sure", "fairly sure", "unsure"]


def in_words(probability: float) -> Sureness:
    """What a person would say of it."""
    return "sure" if probability >= SURE else "fairly sure" if probability >= FAIRLY else "unsure"
