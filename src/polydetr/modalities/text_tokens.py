"""A text's tokens as a table: word by word, so that each word has a first token of its own (tags, answers), or as the
tokenizer was pretrained to read it, in fewer tokens.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Self

import numpy as np
from tokenizers.pre_tokenizers import Metaspace

from polydetr.core.layout import FieldText
from polydetr.modalities.text_subwords import Positions, cut_run, joins_characters, runs
from polydetr.specs.text import TextSpec
from polydetr.values.spans import is_unspaced

SHAPES = ("special", "lower", "title", "upper", "mixed", "digit", "symbol", "unspaced", "other")
_SHAPE_ID = {name: i for i, name in enumerate(SHAPES)}
WORD_START = "▁"
"""The mark of SentencePiece vocabularies."""
ENCODING = 3
"""Raised whenever ``encode`` or ``split_words`` gives other tokens for the same text: files of tokens made before are
then not read. A model folder keeps the number it was trained with: before 3, a SentencePiece vocabulary read every word
as if a space stood before it, and every character as a subword of its own.
"""
FIELDS = IDS, START, END, WORD, FIRST, SHAPE, SUBWORD_FIRST, PLACE = range(8)
"""Rows of a token table, int32 (8, L): id, first and end character, word (-1: none), whether it is its word's first,
word shape; whether it is its subword's first position and its place in the subword (``text_subwords``; always 1 and 0
without them).
"""


@functools.lru_cache(maxsize=100_000)
def word_shape(word: str) -> int:
    """The kind of a word by its letters: what an uncased vocabulary forgets."""
    if word.islower():
        kind = "lower"
    elif word.isupper():
        kind = "upper" if len(word) > 1 else "title"
    elif word.istitle():
        kind = "title"
    elif any(c.isupper() for c in word):
        kind = "mixed"
    elif word[:1].isdigit():
        kind = "digit"
    elif word and is_unspaced(word[0]):
        kind = "unspaced"
    elif not word[:1].isalnum():
        kind = "symbol"
    else:
        kind = "other"
    return _SHAPE_ID[kind]


class TextTokens:
    """``table`` of any text. subwords: whether scripts without spaces are read in the backbone's own
    (``text_subwords``).

    encoding: see ``ENCODING``. One that reads word by word changes the backbone's tokenizer: it no longer marks what
    has no space before it.
    """

    def __init__(
        self, spec: TextSpec, *, by_word: bool, word_shape: bool, subwords: bool, encoding: int = ENCODING
    ) -> None:
        self.spec, self.by_word, self.word_shape, self.encoding = spec, by_word, word_shape, encoding
        spec.tokenizer.encode_special_tokens = True  # "[SEP]" in a user's text is text
        if by_word and encoding >= 3 and isinstance(mark := spec.tokenizer.pre_tokenizer, Metaspace):
            mark.prepend_scheme = "never"  # a word without a space before it goes on: "S" in "U.S.", not "▁S"
        pretrained = by_word and encoding >= 3 and spec.num_layers > 0
        self.subwords = subwords and pretrained and joins_characters(spec.tokenizer)
        self._words: dict[tuple[str, bool], Positions] = {}

    def whole(self) -> Self:
        """A twin that reads texts whole, with the same tokenizer."""
        twin = copy.copy(self)
        twin.by_word = twin.subwords = False
        return twin

    def table(self, text: FieldText) -> np.ndarray:
        """(8, L), rows as ``FIELDS`` names them."""
        return self._word_by_word(text) if self.by_word else self._at_once(text)

    def _word_by_word(self, text: FieldText) -> np.ndarray:
        string, words = text.text, text.words
        ids: list[int] = []
        start: list[int] = []
        end: list[int] = []
        counts: list[int] = []
        is_first: list[int] = []
        place: list[int] = []
        for first, stop in runs(string, words) if self.subwords else ((i, i + 1) for i in range(len(words))):
            found = (
                self._word_positions(string, words[first])
                if stop - first == 1
                else self._run(string, words[first:stop])
            )
            ids += found.ids
            start += found.start
            end += found.end
            counts += found.counts
            is_first += found.is_first
            place += found.place
        out = np.empty((len(FIELDS), len(ids)), dtype=np.int32)
        word = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        base = np.array([a for a, _ in words], dtype=np.int32)[word]
        out[IDS], out[START], out[END], out[WORD] = ids, start + base, end + base, word
        out[FIRST] = np.diff(word, prepend=-1) != 0
        shapes = [word_shape(string[a:b]) if self.word_shape else 0 for a, b in words]
        out[SHAPE] = np.array(shapes, dtype=np.int32)[word]
        out[SUBWORD_FIRST], out[PLACE] = is_first, place
        return out

    def _word_positions(self, string: str, word: tuple[int, int]) -> Positions:
        """Words repeat (Zipf), so a table is much faster than the tokenizer."""
        key = string[slice(*word)], self._spaced(string, word)
        found = self._words.get(key)
        if found is None:
            length = word[1] - word[0]
            found = cut_run(self._subwords(*key), [(0, length)], unknown=self.spec.unk_id)
            if len(self._words) > 200_000:
                self._words.clear()
            if length < 100:
                self._words[key] = found
        return found

    def _run(self, string: str, words: Sequence[tuple[int, int]]) -> Positions:
        origin, end = words[0][0], words[-1][1]
        subwords = self._subwords(string[origin:end], self._spaced(string, words[0]))
        return cut_run(subwords, [(a - origin, b - origin) for a, b in words], unknown=self.spec.unk_id)

    def _spaced(self, string: str, word: tuple[int, int]) -> bool:
        """A leading space is part of a SentencePiece token; a WordPiece tokenizer ignores it."""
        return word[0] == 0 or string[word[0] - 1].isspace()

    def _subwords(self, text: str, spaced: bool) -> list[tuple[int, int, int]]:
        """(id, first, end character) of the tokenizer's subwords."""
        space = int(spaced)
        encoding = self.spec.tokenizer.encode(" " * space + text, add_special_tokens=False)
        found = [(i, max(a - space, 0), b - space) for i, (a, b) in zip(encoding.ids, encoding.offsets, strict=True)]
        # A lone word-start mark stands for no character: it would only make the sequence longer.
        if self.encoding >= 3 and len(found) > 1 and encoding.tokens[0] == WORD_START:
            del found[0]
        return [(i, a, b) for i, a, b in found if text[a:b].strip()]

    def _at_once(self, text: FieldText) -> np.ndarray:
        mark = self.spec.tokenizer.pre_tokenizer
        # Where words are marked one by one (a twin that reads whole texts beside them), so is the first.
        space = int(isinstance(mark, Metaspace) and mark.prepend_scheme == "never" and text.text[:1] != " ")
        encoding = self.spec.tokenizer.encode(" " * space + text.text, add_special_tokens=False)
        out = np.zeros((len(FIELDS), len(encoding.ids)), dtype=np.int32)
        out[IDS] = encoding.ids
        out[WORD] = -1
        out[SUBWORD_FIRST] = 1
        if not len(encoding.ids):
            return out
        start, end = np.maximum(np.array(encoding.offsets, dtype=np.int32).T - space, 0)
        if text.words:
            bounds = np.array(text.words, dtype=np.int32)
            word = np.searchsorted(bounds[:, 1], start, side="right")  # the first word that ends after the token begins
            last = np.minimum(word, len(bounds) - 1)
            start = np.maximum(start, np.minimum(bounds[last, 0], end - 1))  # white space in front belongs to no token
            inside = (word < len(bounds)) & (bounds[last, 0] <= start)
            out[WORD] = np.where(inside, word, -1)
            out[FIRST] = inside & (np.diff(out[WORD], prepend=-1) != 0)
            if self.word_shape:
                shapes = np.array([word_shape(text.text[a:b]) for a, b in text.words], dtype=np.int32)
                out[SHAPE] = np.where(inside, shapes[last], 0)
        out[START], out[END] = start, end
        return out


@functools.lru_cache(maxsize=64)
def special_token(token: int) -> np.ndarray:
    """A token that stands for no character, as a table of one."""
    table = np.array([[token], [0], [0], [-1], [0], [0], [1], [0]], dtype=np.int32)
    table.flags.writeable = False
    return table
