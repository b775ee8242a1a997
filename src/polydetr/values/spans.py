"""Labeled spans of text, and the one definition of a word.

A span counts characters of the original string, ``start`` inclusive and ``end`` exclusive, as Python slices do.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Literal, NamedTuple


class Span(NamedTuple):
    """``text[start:end]`` carries ``label``; ``score`` is a probability, None for a span that was not predicted."""

    start: int
    end: int
    label: str
    score: float | None = None

    @property
    def key(self) -> tuple[int, int, str]:
        """What exact-match scoring compares."""
        return (self.start, self.end, self.label)


NOT_FOUND = -1
"""The place of a text that does not occur in another."""


def place_of(text: str, part: str, start: int | None) -> int:
    """Where ``part`` begins in ``text``: at ``start``, or at its occurrence nearest to that (the first, where no start
    is known), or ``NOT_FOUND``.
    """
    near = max(0, start or 0)
    if start is not None and start >= 0 and text.startswith(part, start):
        return start
    places = [p for p in (text.rfind(part, 0, near + len(part)), text.find(part, near)) if p != NOT_FOUND]
    return min(places, key=lambda p: abs(p - near), default=NOT_FOUND)


def read_offset(value: Any) -> int | None:
    """A character's number, written as a number or as text; None where there is none.

    Raises:
        ValueError: it is neither.
    """
    if value is None or value != value or value == "":
        return None
    number = int(value)
    if isinstance(value, (str, int)) or number == value:
        return number
    raise ValueError(f"{value!r:.40} is no whole number")


def trim(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without white space at its ends, which belongs to no word; as it is where it holds nothing else."""
    inside = text[start:end]
    if not inside.strip():
        return start, end
    return start + len(inside) - len(inside.lstrip()), end - len(inside) + len(inside.rstrip())


Nesting = Literal["none", "nested", "any"]
"""How spans of one text may lie: apart; also inside one another; also across one another."""
SPARE_QUERIES = 8
"""Queries beyond those that the number of words calls for."""


def num_span_queries(num_words: Any, per_word: float) -> Any:
    """How many spans a set of queries can find among so many words (a number, array or tensor of float32): ⌈per_word ·
    num_words⌉, and some to spare. The same type, whole numbers.
    """
    return -(-(num_words * per_word) // 1) + SPARE_QUERIES


def go_together(a: tuple[int, int], b: tuple[int, int], nesting: Nesting) -> bool:
    """Whether two spans (start, end) may both be there. The same span twice is as good as nested."""
    apart = a[1] <= b[0] or b[1] <= a[0]
    inside = (a[0] <= b[0] and b[1] <= a[1]) or (b[0] <= a[0] and a[1] <= b[1])
    return apart or (inside and nesting != "none") or nesting == "any"


def nesting_of(texts: Iterable[Sequence[Span]]) -> Nesting:
    """The strictest kind that all these texts' spans keep to."""
    nesting: Nesting = "none"
    for spans in texts:
        ordered = sorted((span.start, span.end) for span in spans)
        for i, a in enumerate(ordered):
            for j in range(i + 1, len(ordered)):
                b = ordered[j]
                if b[0] >= a[1]:
                    break  # and all behind it begin there or later
                if not go_together(a, b, "nested"):
                    return "any"
                nesting = "nested"
    return nesting


# Scripts written without spaces between words. In Chinese and Japanese every character is a word of its own;
_UNSPACED = (
    "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3100-\u312f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
# in Thai, Lao, Burmese and Khmer every letter with its marks, so that a span may begin wherever a real word does.
_CLUSTERED = "\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff"
UNSPACED = _UNSPACED + _CLUSTERED
"""All of them, as the inside of a character class of a regular expression."""
_JOINERS = "\u200c\u200d"
_SKIN_TONES = "\U0001f3fb-\U0001f3ff"
# What the pattern below comes to in ASCII, at four times the speed:
_ASCII_WORD = re.compile(r"[A-Za-z]+|\d+(?:[.,]\d+)*|[^\w\s]|_")
_UNSPACED_CHAR = re.compile(rf"[{_UNSPACED}]")
_CLUSTERED_CHAR = re.compile(rf"[{_CLUSTERED}]")


@functools.cache
def _word_pattern() -> re.Pattern[str]:
    """One word. Combining marks belong to what they stand on; ``re`` has no class for them, so theirs is made here (30
    ms, once).
    """
    assigned = chain(range(0x300, 0x1F000), range(0xE0100, 0xE01F0))
    mark = "".join(c for c in map(chr, assigned) if unicodedata.category(c)[0] == "M")
    letter = rf"[^\W\d_{_UNSPACED}{_CLUSTERED}]+[{mark}]*"
    symbol = rf"[^\w\s][{mark}{_SKIN_TONES}]*"
    return re.compile(
        rf"\d+(?:[.,]\d+)*[{mark}]*"  # a number with its separators
        rf"|[{_UNSPACED}{_CLUSTERED}][{mark}]*"  # one character of an unspaced script
        rf"|(?:{letter})+(?:[{_JOINERS}](?:{letter})+)*"  # a run of letters
        rf"|{symbol}(?:\u200d{symbol})*"  # one symbol, or several that a joiner makes into one
        r"|_"
    )


def is_unspaced(char: str) -> bool:
    """True where words are not separated by spaces (Chinese, Japanese): such a character is a word of its own."""
    return _UNSPACED_CHAR.match(char) is not None


def split_words(text: str) -> list[tuple[int, int]]:
    """The words of ``text`` as (start, end) character offsets; white space belongs to none."""
    return [m.span() for m in (_ASCII_WORD if text.isascii() else _word_pattern()).finditer(text)]


def join_tokens(tokens: list[str]) -> tuple[str, list[tuple[int, int]]]:
    """One string from ready-made tokens, with each token's (start, end) in it.

    A space stands between two tokens unless both sides are characters of an unspaced script (or full-width symbols).
    """
    parts: list[str] = []
    offsets: list[tuple[int, int]] = []
    position = 0
    previous = ""
    for token in tokens:
        if previous and token and not (_no_space(previous[-1]) and _no_space(token[0])):
            parts.append(" ")
            position += 1
        parts.append(token)
        offsets.append((position, position + len(token)))
        position += len(token)
        previous = token or previous
    return "".join(parts), offsets


def _no_space(char: str) -> bool:
    return is_unspaced(char) or _CLUSTERED_CHAR.match(char) is not None or unicodedata.east_asian_width(char) in "FW"
