"""Chinese, Japanese and Thai in the subwords that a backbone was pretrained on, answered character by character.

A SentencePiece vocabulary joins characters (北京, 大学). One token per character would show the backbone sequences
unlike any it was pretrained on, and half again as long; one answer per subword could not tell apart what a subword
joins. So such a run is cut as the tokenizer cuts it, every word (here: character) of a subword gets a *character
position* of its own in the sequence that tasks see, and the backbone reads only the *first position* of each subword
(``embedders.text_subwords``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from polydetr.values.spans import UNSPACED

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_FAR = 3
"""Places beyond the fourth character of a subword, from its beginning and from its end, are the same to the model."""
NUM_PLACES = 1 + (_FAR + 1) ** 2
_RUN = re.compile(rf"[{UNSPACED}]+")
_JOINED = re.compile(rf"[{UNSPACED}]{{2}}")


class Position(NamedTuple):
    """A character position: the id of its subword, its first and end character counted from its word's first, whether
    it is its subword's first position, and its place in the subword (``place_of``).
    """

    id: int
    start: int
    end: int
    is_first: bool
    place: int


def joins_characters(tokenizer: Tokenizer) -> bool:
    """Whether any subword of its vocabulary has several characters of a script written without spaces."""
    return any(_JOINED.search(subword) for subword in tokenizer.get_vocab())


def runs(text: str, words: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """(first, end) numbers of ``words`` that go together: neighbors of an unspaced script with nothing between them,
    any other word alone.
    """
    i = 0
    while i < len(words):
        begin = i
        match = _RUN.match(text, words[i][0])
        i += 1
        while match and i < len(words) and words[i][0] == words[i - 1][1] and words[i][0] < match.end():
            i += 1
        yield begin, i


def cut_run(
    subwords: Sequence[tuple[int, int, int]], words: Sequence[tuple[int, int]], *, unknown: int
) -> list[list[Position]]:
    """The positions of each word of a run, from its subwords (id, first, end character): one position per overlap of a
    subword with a word.

    A word without any subword (the tokenizer dropped it) has one position, of the subword id ``unknown``.
    """
    parts: list[list[tuple[int, int, int, int]]] = [[] for _ in words]  # per word: (number, id, first, end)
    low = 0
    for number, (subword, begin, stop) in enumerate(subwords):
        while low < len(words) and words[low][1] <= begin:
            low += 1
        at = low
        while at < len(words) and words[at][0] < stop:
            first, end = words[at]
            parts[at].append((number, subword, max(begin - first, 0), min(stop, end) - first))
            at += 1
    sizes = Counter(number for part in parts for number, *_ in part)
    before: Counter[int] = Counter()
    positions = []
    for (a, b), part in zip(words, parts, strict=True):
        own = [] if part else [Position(unknown, 0, b - a, is_first=True, place=0)]
        for number, subword, first, stop in part:
            index = before[number]
            own.append(Position(subword, first, stop, index == 0, place_of(index, sizes[number])))
            before[number] += 1
        # A tokenizer may drop marks at a word's edges; the word has them all the same.
        own[0] = own[0]._replace(start=0)
        own[-1] = own[-1]._replace(end=b - a)
        positions.append(own)
    return positions


def place_of(index: int, count: int) -> int:
    """The number of "the ``index``-th of ``count`` positions": 0 where the position has its subword to itself."""
    return 0 if count == 1 else 1 + (_FAR + 1) * min(index, _FAR) + min(count - 1 - index, _FAR)
