"""A text's tokens as a table: word by word, so that each word has a first token of its own (for tasks that answer per
word), or as the tokenizer was pretrained to read it, in fewer tokens.
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np

from polydetr.core.layout import FieldText
from polydetr.errors import RowError
from polydetr.modalities.text_subwords import Position, cut_run, joins_characters, runs
from polydetr.specs.folders import is_panic
from polydetr.specs.text import TextSpec
from polydetr.values.spans import is_unspaced

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer
    from tokenizers.pre_tokenizers import Metaspace

SHAPES = ("special", "lower", "title", "upper", "mixed", "digit", "symbol", "unspaced", "other")
_SHAPE_ID = {name: i for i, name in enumerate(SHAPES)}
WORD_START = "▁"
"""The mark of SentencePiece vocabularies."""
ENCODING = 3
"""A version, raised whenever ``encode`` or ``split_words`` gives other tokens for the same text: older files of tokens
are then not read. A model folder keeps the version with which it was trained. Before 3, every word was tokenized by a
SentencePiece vocabulary as if a space stood before it, and every character as a subword of its own.
"""
FIELDS = IDS, START, END, WORD, FIRST, SHAPE, SUBWORD_FIRST, PLACE = range(8)
"""Rows of a token table, int32 (8, L): id, first and end character, word (-1: none), whether it is its word's first,
word shape; whether it is its subword's first position, and its place in the subword (``text_subwords``; always 1 and 0
where subwords are not shared).
"""


@functools.lru_cache(maxsize=100_000)
def word_shape(word: str) -> int:
    """The number in ``SHAPES`` of a word's kind by its letters, which an uncased vocabulary loses."""
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
    """Makes the token table of any text.

    subwords: whether scripts without spaces are read in the backbone's own subwords (``text_subwords``). encoding: see
    ``ENCODING``. Where texts are read word by word, the backbone's tokenizer is changed: it no longer marks a word that
    has no space before it.
    """

    def __init__(
        self, spec: TextSpec, *, by_word: bool, word_shape: bool, subwords: bool, encoding: int = ENCODING
    ) -> None:
        self.spec, self.by_word, self.word_shape, self.encoding = spec, by_word, word_shape, encoding
        spec.tokenizer.encode_special_tokens = True  # "[SEP]" in a user's text is text
        if by_word and encoding >= 3 and (mark := _marks(spec.tokenizer)):
            mark.prepend_scheme = "never"  # a word without a space before it goes on: "S" in "U.S.", not "▁S"
        pretrained = by_word and encoding >= 3 and spec.num_layers > 0
        self.subwords = subwords and pretrained and joins_characters(spec.tokenizer)
        self._known = spec.vocab_size
        self._words: dict[tuple[str, bool], list[list[Position]]] = {}

    def whole(self) -> Self:
        """A copy that does not read word by word, with the same tokenizer."""
        changed = copy.copy(self)
        changed.by_word = changed.subwords = False
        return changed

    def table(self, text: FieldText) -> np.ndarray:
        """(8, L), rows as ``FIELDS`` names them."""
        return self._word_by_word(text) if self.by_word else self._at_once(text)

    def _word_by_word(self, text: FieldText) -> np.ndarray:
        string, words = text.text, text.words
        positions: list[list[Position]] = []  # of each word
        for first, stop in runs(string, words) if self.subwords else ((i, i + 1) for i in range(len(words))):
            if stop - first == 1:
                positions += self._word_positions(string, words[first])
            else:
                positions += self._run(string, words[first:stop])
        numbers = itertools.chain.from_iterable(itertools.chain.from_iterable(positions))
        flat = np.fromiter(numbers, dtype=np.int32).reshape(-1, len(Position._fields))
        word = np.repeat(np.arange(len(words), dtype=np.int32), [len(own) for own in positions])
        base = np.array([a for a, _ in words], dtype=np.int32)[word]
        out = np.empty((len(FIELDS), len(word)), dtype=np.int32)
        out[[IDS, START, END, SUBWORD_FIRST, PLACE]] = flat.T
        out[START] += base
        out[END] += base
        out[WORD] = word
        out[FIRST] = np.diff(word, prepend=-1) != 0
        shapes = [word_shape(string[a:b]) if self.word_shape else 0 for a, b in words]
        out[SHAPE] = np.array(shapes, dtype=np.int32)[word]
        return out

    def _word_positions(self, string: str, word: tuple[int, int]) -> list[list[Position]]:
        """``_run`` of one word, cached: words repeat (Zipf), and a table is much faster than the tokenizer."""
        key = string[slice(*word)], self._spaced(string, word)
        positions = self._words.get(key)
        if positions is None:
            positions = self._run(string, [word])
            if len(self._words) > 200_000:
                self._words.clear()
            if word[1] - word[0] < 100:
                self._words[key] = positions
        return positions

    def _run(self, string: str, words: Sequence[tuple[int, int]]) -> list[list[Position]]:
        origin, end = words[0][0], words[-1][1]
        subwords = self._subwords(string[origin:end], self._spaced(string, words[0]))
        return cut_run(subwords, [(a - origin, b - origin) for a, b in words], unknown=self.spec.unk_id)

    def _spaced(self, string: str, word: tuple[int, int]) -> bool:
        """A leading space is part of a SentencePiece token; a WordPiece tokenizer ignores it."""
        return word[0] == 0 or string[word[0] - 1].isspace()

    def _subwords(self, text: str, spaced: bool) -> list[tuple[int, int, int]]:
        """(id, first, end character) of the tokenizer's subwords."""
        space = int(spaced)
        encoding = self._encoded(" " * space + text)
        subwords = [(i, max(a - space, 0), b - space) for i, (a, b) in zip(encoding.ids, encoding.offsets, strict=True)]
        # A lone word-start mark stands for no character: it would only make the sequence longer.
        if self.encoding >= 3 and len(subwords) > 1 and encoding.tokens[0] == WORD_START:
            del subwords[0]
        return [(i, a, b) for i, a, b in subwords if text[a:b].strip()]

    def _encoded(self, text: str) -> Encoding:
        """Raises RowError where the tokenizer cannot read it, or gives ids that the encoder does not know."""
        try:
            encoding = self.spec.tokenizer.encode(text, add_special_tokens=False)
            if self._known is not None and max(encoding.ids, default=0) >= self._known:
                raise ValueError(f"it gives ids above {self._known - 1}")
            return encoding
        except BaseException as error:
            if isinstance(error, Exception) or is_panic(error):
                raise RowError(f"the model's tokenizer cannot read this text: {error!s:.200}") from None
            raise

    def _at_once(self, text: FieldText) -> np.ndarray:
        mark = _marks(self.spec.tokenizer)
        # A tokenizer that was changed for reading word by word (see ``whole``) does not mark the first word by itself.
        space = int(mark is not None and mark.prepend_scheme == "never" and text.text[:1] != " ")
        encoding = self._encoded(" " * space + text.text)
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
            out[WORD] = word = np.where(inside, word, -1)
            inside[1:] &= word[1:] != word[:-1]
            out[FIRST] = inside
            if self.word_shape:
                shapes = np.array([word_shape(text.text[a:b]) for a, b in text.words], dtype=np.int32)
                out[SHAPE] = np.where(word >= 0, shapes[last], 0)
        out[START], out[END] = start, end
        return out


@functools.lru_cache(maxsize=64)
def special_token(token: int) -> np.ndarray:
    """A token that stands for no character, as a table of one."""
    table = np.array([[token], [0], [0], [-1], [0], [0], [1], [0]], dtype=np.int32)
    table.flags.writeable = False
    return table


def _marks(tokenizer: Tokenizer) -> Metaspace | None:
    """What marks the beginnings of words, where the tokenizer has it."""
    from tokenizers.pre_tokenizers import Metaspace

    found = tokenizer.pre_tokenizer
    return found if isinstance(found, Metaspace) else None
