"""Where a window's tokens came from: a modality cuts text into tokens, and a task must answer in characters of the
original text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Layout:
    """Which characters each token of one window stands for; all arrays are (L,), one entry per token.

    row: index of the row inside its document (-1: a special token or prompt); start, end: characters of that row's
    text; word: index of the word inside the row (-1: none); first: True at a word's first token; margin: tokens to the
    nearer edge at which the window cuts the text (large = much context), by which overlapping windows are merged.
    """

    row: np.ndarray
    start: np.ndarray
    end: np.ndarray
    word: np.ndarray
    first: np.ndarray
    margin: np.ndarray


Layouts = Sequence[Layout | None]
"""One per window of a document; None where the window has no text."""


@dataclass(frozen=True)
class FieldText:
    """The text of one row's windowed field, with its words as (start, end) characters."""

    text: str
    words: Sequence[tuple[int, int]]
