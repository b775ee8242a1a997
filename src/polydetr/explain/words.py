"""The words an explanation speaks of: where each stands in the original string, which tokens stand for it, and the
text without some
of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polydetr.core.layout import FieldText, Layout
from polydetr.core.records import Row
from polydetr.modalities.text import as_text, is_missing_text
from polydetr.values.spans import is_unspaced


@dataclass(frozen=True, slots=True)
class Place:
    """A word: characters ``start`` to ``end`` of column ``field``; ``index`` counts the words of that column."""

    field: str
    index: int
    start: int
    end: int
    text: str


@dataclass(frozen=True)
class TokenWords:
    """Which words the tokens of one window stand for: token[i] stands for word[i] with share[i]; a token's shares sum
    to 1.

    special: (L,) True for [CLS] and [SEP], which stand for no text; margin: word → the token distance to the window's
    edge.
    """

    token: NDArray[np.int64]
    word: NDArray[np.int64]
    share: NDArray[np.float64]
    special: NDArray[np.bool_]
    margin: Mapping[int, int]


class Words:
    """All words of one row's text columns, in the order in which the model reads them."""

    def __init__(self, row: Row, fields: Sequence[str]) -> None:
        self.fields = tuple(fields)
        values = {field: "" if is_missing_text(row.get(field)) else row[field] for field in fields}
        self.texts: dict[str, FieldText] = {field: as_text(value, field=field) for field, value in values.items()}
        self.places = [
            Place(field, i, start, end, text.text[start:end])
            for field, text in self.texts.items()
            for i, (start, end) in enumerate(text.words)
        ]
        counts = [len(text.words) for text in self.texts.values()]
        self._first = dict(zip(fields, np.cumsum([0, *counts[:-1]]).tolist(), strict=True))

    def __len__(self) -> int:
        return len(self.places)

    def number(self, index: int) -> int:
        """The place among all words of word ``index`` of the windowed (last) column, into which answers point."""
        return self._first[self.fields[-1]] + index

    def of_window(self, layout: Layout, input_ids: NDArray[np.integer], sep_id: int) -> TokenWords:
        """A token that covers several words (Chinese in SentencePiece) stands for each in equal parts."""
        special = (layout.row < 0) & (layout.start == 0) & (layout.end == 0)
        closed = np.cumsum(special & (input_ids == sep_id))
        tokens, words, shares = [], [], []
        margin: dict[int, int] = {}
        starts = {field: np.array([w[0] for w in text.words], dtype=np.int64) for field, text in self.texts.items()}
        ends = {field: np.array([w[1] for w in text.words], dtype=np.int64) for field, text in self.texts.items()}
        for t in np.flatnonzero(~special):
            field = self.fields[-1] if layout.row[t] >= 0 else self.fields[int(closed[t])]
            low = int(np.searchsorted(ends[field], layout.start[t], side="right"))
            high = int(np.searchsorted(starts[field], max(layout.end[t], layout.start[t] + 1), side="left"))
            for index in range(low, high):
                number = self._first[field] + index
                tokens.append(t)
                words.append(number)
                shares.append(1 / (high - low))
                margin.setdefault(number, int(layout.margin[t]))
        return TokenWords(np.array(tokens, int), np.array(words, int), np.array(shares, float), special, margin)

    def without(self, row: Row, gone: Collection[int]) -> dict[str, object]:
        """The row with those words deleted; all other words stay the words they were (see :func:`without_words`)."""
        shorter = dict(row)
        for field, text in self.texts.items():
            first = self._first[field]
            here = {n - first for n in gone if first <= n < first + len(text.words)}
            if not here:
                continue
            value = row[field]
            if isinstance(value, str):
                shorter[field] = without_words(text, here)
            else:
                shorter[field] = [str(token) for i, token in enumerate(value) if i not in here]
        return shorter


def without_words(text: FieldText, gone: Collection[int]) -> str:
    """The text with words deleted. Where that would make its neighbours one word ("3.5" without the middle), a space
    parts them.
    """
    kept: list[str] = []
    position = 0
    for index in sorted(gone):
        start, end = text.words[index]
        kept.append(text.text[position:start])
        position = end
    kept.append(text.text[position:])
    result = ""
    for piece in kept:
        if result and piece:
            if result[-1].isspace():
                piece = piece.removeprefix(" ")
            elif not piece[0].isspace() and not (is_unspaced(result[-1]) and is_unspaced(piece[0])):
                result += " "
        result += piece
    return result
