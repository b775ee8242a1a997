"""Where a window's tokens came from: the bridge between a modality, which cuts, and a task, which must answer in the
original's characters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a row that is worth telling though the row can be read.

    kind: "missing", "wrong_type", "unreadable", "unseen_category", "truncated", "out_of_range" or "label".
    """

    kind: str
    column: str | None
    message: str

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Layout:
    """Which characters each token of one window stands for; all arrays have one entry a token.

    row: index of the row inside its document (-1: a special token or prompt); start, end: characters of that row's
    text;
    word: index of the word inside the row (-1: none); first: True at a word's first token; margin: distance to the
    nearer artificial edge of the window (large = much context), by which overlapping windows are merged.
    """

    row: np.ndarray
    start: np.ndarray
    end: np.ndarray
    word: np.ndarray
    first: np.ndarray
    margin: np.ndarray


@dataclass(frozen=True)
class FieldText:
    """The text of one row's windowed field, with its words as (start, end) characters."""

    text: str
    words: Sequence[tuple[int, int]]
