"""Labelled stretches of text, and the one definition of a word.

A span counts characters of the original string, ``start`` inclusive and ``end`` exclusive, as Python slices do.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple


class Span(NamedTuple):
    """``text[start:end]`` carries ``label``; ``score`` is a probability, or None for a span that was given, not found."""

    start: int
    end: int
    label: str
    score: float | None = None

    @property
    def key(self) -> tuple[int, int, str]:
        """What exact-match scoring compares."""
        return (self.start, self.end, self.label)


# Scripts written without spaces between words: there every character is a word of its own.
_UNSPACED = "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3100-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
_WORD = re.compile(
    rf"[{_UNSPACED}]"  # one character of an unspaced script
    rf"|\d+(?:[.,]\d+)*"  # a number with its separators
    rf"|(?:(?![{_UNSPACED}\d_])[\w\u0300-\u036f])+"  # a run of letters (with combining marks)
    rf"|[^\w\s]|_",  # one symbol
)
_UNSPACED_CHAR = re.compile(rf"[{_UNSPACED}]")


def is_unspaced(char: str) -> bool:
    """True where words are not separated by spaces (Chinese, Japanese): such a character is a word of its own."""
    return _UNSPACED_CHAR.match(char) is not None


def split_words(text: str) -> list[tuple[int, int]]:
    """The words of ``text`` as (start, end) character offsets; white space belongs to none."""
    return [m.span() for m in _WORD.finditer(text)]


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
    return is_unspaced(char) or unicodedata.east_asian_width(char) in "FW"
