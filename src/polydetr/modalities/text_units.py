"""Words as units of an explanation: where each stands in the original string, which tokens stand for it, and the text
without some of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from polydetr.core.documents import Window
from polydetr.core.examples import Arrays
from polydetr.core.layout import FieldText, Layout
from polydetr.core.records import Row
from polydetr.modalities.units import Part, Place, Scores, TokenWords, UnitKind
from polydetr.specs.text import TextSpec
from polydetr.values.spans import is_unspaced


class TextPart(Part):
    """All words of one row's text columns, in the order in which the model reads them.

    texts: by column; windows: those in which the row was read.
    """

    group: ClassVar[str] = "text"
    kind: ClassVar[UnitKind] = "words"

    def __init__(self, texts: Mapping[str, FieldText], windows: Sequence[Window], spec: TextSpec) -> None:
        self.fields, self.texts, self.spec = tuple(texts), dict(texts), spec
        self.places = [
            Place(field, i, start, end, text.text[start:end], text.text[last:start])
            for field, text in self.texts.items()
            for i, ((start, end), last) in enumerate(
                zip(text.words, [0, *(word[1] for word in text.words)], strict=False)
            )
        ]
        counts = [len(text.words) for text in self.texts.values()]
        self._first = dict(zip(self.fields, np.cumsum([0, *counts[:-1]]).tolist(), strict=True))
        self.columns = tuple(place.field for place in self.places)
        self.windows = [self._of_window(w.layout, w.arrays["input_ids"]) for w in windows if w.layout is not None]

    def number(self, index: int) -> int:
        return self._first[self.fields[-1]] + index

    def _of_window(self, layout: Layout, input_ids: NDArray[np.integer]) -> TokenWords:
        """A token that covers several words (Chinese in SentencePiece) stands for each in equal parts."""
        special = (layout.row < 0) & (layout.start == 0) & (layout.end == 0)
        closed = np.cumsum(special & (input_ids == self.spec.sep_id))
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

    def without(self, row: Row, deleted: Collection[int]) -> dict[str, object]:
        """The row with these words deleted; all other words stay the words they were (see :func:`without_words`)."""
        shorter = dict(row)
        for field, text in self.texts.items():
            first = self._first[field]
            here = {n - first for n in deleted if first <= n < first + len(text.words)}
            if not here:
                continue
            value = row[field]
            if isinstance(value, str):
                shorter[field] = without_words(text, here)
            else:
                shorter[field] = [str(token) for i, token in enumerate(value) if i not in here]
        return shorter

    def blank(self, arrays: Arrays, window: int) -> dict[str, np.ndarray]:
        """[PAD] in the place of every word, and no word shape."""
        special, fill = self.windows[window].special, {"input_ids": self.spec.pad_id, "shape_ids": 0}
        return {
            name: np.where(special, array, np.array(fill[name], dtype=array.dtype)) if name in fill else array
            for name, array in arrays.items()
        }

    def scores(self, of_vectors: Scores) -> Scores:
        longest = max(len(tokens.special) for tokens in self.windows)
        result = np.zeros(len(self))
        for tokens, own in zip(self.windows, of_vectors.reshape(len(of_vectors), longest, -1).sum(-1), strict=True):
            np.add.at(result, tokens.word, tokens.share * own[tokens.token])
        return result

    @property
    def present(self) -> Sequence[int]:
        return sorted({int(word) for tokens in self.windows for word in tokens.word})


def without_words(text: FieldText, deleted: Collection[int]) -> str:
    """The text with words deleted. Where that would join two neighbors into one word ("3.5" without the middle), a
    space is put between them.
    """
    kept: list[str] = []
    position = 0
    for index in sorted(deleted):
        start, end = text.words[index]
        kept.append(text.text[position:start])
        position = end
    kept.append(text.text[position:])
    result = ""
    for part in kept:
        if result and part:
            if result[-1].isspace():
                part = part.removeprefix(" ")
            elif not part[0].isspace() and not (is_unspaced(result[-1]) and is_unspaced(part[0])):
                result += " "
        result += part
    return result
