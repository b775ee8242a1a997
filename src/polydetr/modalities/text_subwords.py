"""Chinese, Japanese and Thai in the subwords that a backbone was pretrained on, answered character by character.

A SentencePiece vocabulary joins characters (北京, 大学). One token per character would show the backbone sequences
unlike any it was pretrained on, and half again as long; one answer per subword could not tell apart what a subword
joins. So such a run is cut as the tokenizer cuts it, every word (here: character) of a subword gets a *character
position* of its own in the sequence that tasks see, and the backbone reads only the *first position* of each subword
(``embedders.text_subwords``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from polydetr.values.spans import UNSPACED

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_FAR = 3
"""Places beyond the fourth character of a subword, from its beginning and from its end, are not told apart."""
NUM_PLACES = 1 + (_FAR + 1) ** 2
_RUN = re.compile(rf"[{UNSPACED}]+")
_JOINED = re.compile(rf"[{UNSPACED}]{{2}}")


class Positions(NamedTuple):
    """The character positions of some neighboring words: ``counts`` how many each word has; one entry per position:
    subword id, first and end character counted from its word's first, whether it is its subword's first position, and
    its place in the subword (0: alone).
    """

    ids: Sequence[int]
    start: Sequence[int]
    end: Sequence[int]
    counts: Sequence[int]
    is_first: Sequence[int]
    place: Sequence[int]


def joins_characters(tokenizer: Tokenizer) -> bool:
    """Whether any subword of its vocabulary spans several characters of a script written without spaces."""
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


def cut_run(subwords: Sequence[tuple[int, int, int]], words: Sequence[tuple[int, int]], *, unknown: int) -> Positions:
    """Positions of a run from its subwords (id, first, end character): one per overlap of a subword with a word.

    A word that no subword shows (the tokenizer dropped it) gets the ``unknown`` one.
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
    sizes: dict[int, int] = {}
    for part in parts:
        for number, *_ in part:
            sizes[number] = sizes.get(number, 0) + 1
    ids, start, end, is_first, place, seen = [], [], [], [], [], {}
    for (a, b), part in zip(words, parts, strict=True):
        shown = part or [(-1, unknown, 0, b - a)]
        for k, (number, subword, first, stop) in enumerate(shown):
            before = seen.get(number, 0) if part else 0
            seen[number] = before + 1
            ids.append(subword)
            # A tokenizer may drop marks at a word's edges; the word has them all the same.
            start.append(first if k else 0)
            end.append(stop if k < len(shown) - 1 else b - a)
            is_first.append(before == 0)
            place.append(place_of(before, sizes.get(number, 1)))
    return Positions(ids, start, end, [max(1, len(p)) for p in parts], is_first, place)


def place_of(index: int, count: int) -> int:
    """The number of "the ``index``-th of ``count`` positions": 0 where the position has its subword to itself."""
    return 0 if count == 1 else 1 + (_FAR + 1) * min(index, _FAR) + min(count - 1 - index, _FAR)
